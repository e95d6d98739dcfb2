"""The step of preference tuning: DPO's loss on pairs of answers, against the model that the tuning began with.

Shapes: B rows, T tokens of a row, P places for pairs in a row, D model width, N = B T.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.checkpoint.model_folder import fill_from
from inhouse.model.attention import CausalAttention
from inhouse.model.compilation import can_compile, compile_blocks
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.model.log_probabilities import log_probabilities
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import allocate, as_forward, inner_attention_in, let_go, parallelize
from inhouse.posttrain.preference.settings import PreferenceSettings
from inhouse.train.balance import Balance, balance_of
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients, TrainStep
from inhouse.train.validation import Validation


class Ratios(NamedTuple):
    """log π(answer) - log π_ref(answer) of the answers of each pair, or their means over an answer's tokens, (B, P);
    and where there is a pair."""

    chosen_BP: Tensor
    rejected_BP: Tensor
    is_pair_BP: Tensor


class PreferenceStep(TrainStep):
    """`TrainStep` whose loss is the mean over a step's pairs of -log σ(β (chosen - rejected)), of log-ratios.

    The reference is a second model of the same weights in `base`, spread like the first and never changed.
    """

    def __init__(
        self, model: Transformer, settings: PreferenceSettings, mesh: Mesh, on_phase: Callable[[str], None], base: Path
    ) -> None:
        """As `TrainStep`."""
        super().__init__(model, settings, mesh, on_phase)
        self._preference = settings
        self.reference = _opened(base, model, mesh)
        self.seen = torch.zeros(4, dtype=torch.float64, device=next(model.parameters()).device)

    def compile(self) -> bool:
        is_possible = super().compile()
        if is_possible and can_compile(self.reference, trains=False):
            compile_blocks(self.reference)
        return is_possible

    def gradients(self, batch: Batch, stop: bool = False) -> Gradients:
        self.seen.zero_()
        return super().gradients(batch, stop)

    def statistics(self) -> dict[str, float]:
        """Of the pairs seen since `seen` was zeroed, over all processes, each of which must call it: in how many the
        chosen answer has the higher log-ratio, and the mean log-ratios. Empty before the first pair.
        """
        count, right, chosen, rejected = self.mesh.sum(self.seen).tolist()
        if not count:
            return {}
        return {
            "accuracy": right / count, "chosen_log_ratio": chosen / count, "rejected_log_ratio": rejected / count,
        }  # fmt: skip

    def _losses_of(self, micro: Batch, ahead: bool = False) -> tuple[tuple[Tensor, ...], list[Balance]]:
        log_p_BT, balances = _log_probabilities(self.model, micro, self.mesh)
        with torch.no_grad():
            reference_BT, _ = _log_probabilities(self.reference, micro, self.mesh)
        let_go(self.reference)
        ratios = log_ratios(log_p_BT - reference_BT, micro, self._preference.length_normalised)
        self.seen += _sums(ratios)
        return (preference_loss(ratios, self._preference.scale),), balances

    def _count_trained(self, batches: Iterable[Batch], device: torch.device, ahead: bool = False) -> Tensor:
        """How many pairs."""
        count = torch.zeros(1, dtype=torch.int64, device=device)
        for batch in batches:
            count += _tokens_of_answers(batch).ge(1).all(dim=-1).sum()
        return count


class PairFigures(Callback):
    """Logs the `statistics` of the last step's pairs."""

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if trainer.done % trainer.settings.log_every == 0 or trainer.done == trainer.num_steps:
            assert isinstance(trainer.step, PreferenceStep)
            trainer.figures |= trainer.step.statistics()


class HeldoutPairs(Validation):
    """Logs the loss on held-out pairs, and in what share of them the chosen answer has the higher log-ratio."""

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        assert isinstance(trainer.step, PreferenceStep)
        trainer.step.seen.zero_()
        super().after_step(trainer, batch, gradients)
        for name, value in trainer.step.statistics().items():
            trainer.figures[f"{self.name}_{name}"] = value


def preference_loss(ratios: Ratios, beta: float) -> Tensor:
    """Sum over the pairs of -log σ(β (chosen - rejected)): DPO's loss (Rafailov et al., 2023, equation 7), of
    log-ratios a token its length-normalised variant (Lambert et al., "Tülu 3", 2024, section 5.1.2).
    """
    losses_BP = -F.logsigmoid(beta * (ratios.chosen_BP - ratios.rejected_BP))
    return losses_BP.masked_fill(~ratios.is_pair_BP, 0.0).sum()


def log_ratios(log_ratio_BT: Tensor, batch: Batch, is_normalised: bool) -> Ratios:
    """Of answers from those of their tokens: sums, or means where `is_normalised`.

    A row's documents 1 and 2 are the chosen and the rejected answer of its first pair, 3 and 4 of its second.
    """
    sums_BP2, counts_BP2 = _by_answer(log_ratio_BT.double(), batch), _tokens_of_answers(batch)
    if is_normalised:
        sums_BP2 = sums_BP2 / counts_BP2.clamp_min(1)
    chosen_BP, rejected_BP = sums_BP2.float().unbind(dim=-1)
    return Ratios(chosen_BP, rejected_BP, counts_BP2.ge(1).all(dim=-1))


def _tokens_of_answers(batch: Batch) -> Tensor:
    """How many trained tokens each answer has, (B, P, 2)."""
    return _by_answer((batch.targets_BT != NOT_TRAINED).long(), batch)


def _by_answer(values_BT: Tensor, batch: Batch) -> Tensor:
    """Sums over each answer's tokens, (B, P, 2); in whatever order a GPU adds them, in fp64 it does not show."""
    assert batch.documents_BT is not None
    num_rows, length = values_BT.shape
    sums = values_BT.new_zeros(num_rows, 1 + 2 * (length // 2))  # a pair takes two tokens at least; 0 is the filler
    return sums.scatter_add(1, batch.documents_BT, values_BT)[:, 1:].unflatten(1, (-1, 2))


def _log_probabilities(model: Transformer, batch: Batch, mesh: Mesh) -> tuple[Tensor, list[Balance]]:
    """Of every trained target, fp32 (B, T); 0 elsewhere."""
    attend = inner_attention_in(mesh, CausalAttention(batch.documents_BT))
    hidden_BTD, routing, _ = model(batch.tokens_BT, batch.positions_BT, attend)
    is_trained_BT = batch.targets_BT != NOT_TRAINED
    targets_n = batch.targets_BT[is_trained_BT]

    def of_head(hidden_nD: Tensor) -> Tensor:
        return log_probabilities(hidden_nD, model.lm_head.weight, targets_n)

    log_p_n = as_forward(model.lm_head, of_head)(hidden_BTD[is_trained_BT])
    log_p_BT = log_p_n.new_zeros(is_trained_BT.shape).masked_scatter(is_trained_BT, log_p_n)
    return log_p_BT, [balance_of(layer) for layer in routing]


@torch.no_grad()
def _sums(ratios: Ratios) -> Tensor:
    """What `PreferenceStep.statistics` are made of."""
    chosen_BP, rejected_BP, is_pair_BP = ratios
    columns = (torch.ones_like(chosen_BP), chosen_BP > rejected_BP, chosen_BP, rejected_BP)
    return torch.stack([column.double()[is_pair_BP].sum() for column in columns])


def _opened(base: Path, like: Transformer, mesh: Mesh) -> Transformer:
    """The model in `base`, of the shape, the type and the device of `like`, and spread like it; without gradients."""
    with torch.device("meta"):
        model = Transformer(like.config, like.dtype)
    parallelize(model, mesh)
    allocate(model, next(like.parameters()).device)
    fill_from(model, base)
    return model.requires_grad_(False)
