"""The step of preference tuning: DPO's loss on pairs of answers, against the model that the tuning began with.

Shapes: B rows, T tokens of a row, P places for pairs in a row, D model width, N = B T.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.checkpoint.model_folder import fill_from
from inhouse.model.attention import CausalAttention
from inhouse.model.compilation import compile_blocks
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import allocate, as_forward, let_go, parallelize
from inhouse.rl.policy_head import PolicyHead
from inhouse.rl.preference.settings import PreferenceSettings
from inhouse.train.balance import Balance, balance_of
from inhouse.train.step import Batch, Gradients, TrainStep


class Ratios(NamedTuple):
    """log π(answer) - log π_ref(answer) of the answers of each pair, or their means over an answer's tokens, (B, P);
    and where there is a pair."""

    chosen_BP: Tensor
    rejected_BP: Tensor
    is_pair_BP: Tensor


class PreferenceStep(TrainStep):
    """`TrainStep` whose loss is the mean over a step's pairs of -log σ(β (chosen - rejected)), of log-ratios.

    The reference is a second model of the weights in `base`, spread like the first and never changed. Gradients have
    `figures` of all pairs of the step: the share in which the chosen answer has the higher log-ratio (`accuracy`), and
    the mean log-ratios.
    """

    def __init__(
        self, model: Transformer, settings: PreferenceSettings, base: Path, mesh: Mesh, on_phase: Callable[[str], None]
    ) -> None:
        """As `TrainStep`."""
        super().__init__(model, settings, mesh, on_phase)
        self._preference, self._head = settings, PolicyHead(temperature=1.0)
        self.reference = _opened(base, model, mesh)
        self._sums = torch.zeros(4, dtype=torch.float64, device=next(model.parameters()).device)

    def compile(self) -> bool:
        is_possible = super().compile()
        if is_possible:
            self._head = self._head.compiled()
            compile_blocks(self.reference)
        return is_possible

    def gradients(self, batch: Batch, stop: bool = False) -> Gradients:
        self._sums.zero_()
        return super().gradients(batch, stop)._replace(figures=self._figures())

    def evaluate_pairs(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The mean loss a pair, and the figures, without gradients."""
        self._sums.zero_()
        loss, count = self.evaluate(batches)
        return {"loss": loss / max(count, 1), **self._figures()}

    def _figures(self) -> dict[str, float]:
        """Over all processes, the same in each."""
        count, right, chosen, rejected = self.mesh.sum(self._sums).tolist()
        names = {"accuracy": right, "chosen_log_ratio": chosen, "rejected_log_ratio": rejected}
        return {name: total / max(count, 1.0) for name, total in names.items()}

    def _losses_of(self, micro: Batch) -> tuple[tuple[Tensor, ...], list[Balance]]:
        self._sequence_balance.is_text_N = micro.is_text_N
        logprobs_BT, balances = self._logprobs(self.model, micro)
        with torch.no_grad():
            reference_BT, _ = self._logprobs(self.reference, micro)
        let_go(self.reference)
        ratios = log_ratios(logprobs_BT - reference_BT, micro, self._preference.length_normalised)
        self._sums += _sums(ratios)
        return (preference_loss(ratios, self._preference.scale),), balances

    def _losses(self, micro_batches: list[Batch]) -> Iterator[Tensor]:
        for micro in micro_batches:
            self.on_phase("validation")
            yield self._losses_of(micro)[0][0].detach()

    def _count_trained(self, batches: Iterable[Batch], device: torch.device, ahead: bool = False) -> Tensor:
        """How many pairs."""
        count = torch.zeros(1, dtype=torch.int64, device=device)
        for batch in batches:
            count += tokens_of_answers(batch).ge(1).all(dim=-1).sum()
        return count

    def _logprobs(self, model: Transformer, batch: Batch) -> tuple[Tensor, list[Balance]]:
        """Of every trained target, fp32 (B, T); 0 elsewhere."""
        output = model(batch.tokens_BT, batch.positions_BT, CausalAttention(batch.documents_BT))
        tokens_N, head = batch.targets_BT.flatten().clamp_min(0), model.lm_head
        scores = as_forward(head, lambda hidden_ND: self._head(hidden_ND, head.weight, tokens_N, None))
        logprobs_BT = scores(output.hidden_BTD.flatten(0, 1)).logprobs_N.view(batch.targets_BT.shape)
        is_trained_BT = batch.targets_BT != NOT_TRAINED
        balances = [balance_of(layer, batch.is_text_N) for layer in output.routing]
        return torch.where(is_trained_BT, logprobs_BT, 0.0), balances


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
    sums_BP2, counts_BP2 = _by_answer(log_ratio_BT.double(), batch), tokens_of_answers(batch)
    if is_normalised:
        sums_BP2 = sums_BP2 / counts_BP2.clamp_min(1)
    chosen_BP, rejected_BP = sums_BP2.float().unbind(dim=-1)
    return Ratios(chosen_BP, rejected_BP, counts_BP2.ge(1).all(dim=-1))


def tokens_of_answers(batch: Batch) -> Tensor:
    """How many trained tokens each answer has, (B, P, 2)."""
    return _by_answer((batch.targets_BT != NOT_TRAINED).long(), batch)


def _by_answer(values_BT: Tensor, batch: Batch) -> Tensor:
    """Sums over each answer's tokens, (B, P, 2); in whatever order a GPU adds them, in fp64 it does not show."""
    assert batch.documents_BT is not None
    num_rows, length = values_BT.shape
    sums = values_BT.new_zeros(num_rows, 1 + 2 * (length // 2))  # a pair takes two tokens at least; 0 is the filler
    return sums.scatter_add(1, batch.documents_BT, values_BT)[:, 1:].unflatten(1, (-1, 2))


@torch.no_grad()
def _sums(ratios: Ratios) -> Tensor:
    """Of how many pairs, and what the figures are the means of."""
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
