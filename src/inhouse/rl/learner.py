"""One optimizer step on rollouts: a `TrainStep` whose loss is an objective of reinforcement learning.

Shapes: B rows, T tokens, N = B T.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from inhouse.model.attention import CausalAttention
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import as_forward, let_go
from inhouse.parallel.layout import ParallelSettings
from inhouse.rl.objective.adaptive import next_widening
from inhouse.rl.objective.registry import OBJECTIVES
from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.objective.terms import Outcome, Terms
from inhouse.rl.policy_batch import PolicyBatch
from inhouse.rl.policy_head import PolicyHead, Scores
from inhouse.train.balance import Balance, balance_of
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch, Gradients, TrainStep


class PolicyStep(TrainStep):
    """The steps of a policy: `gradients` of a packed batch, then `update` or `drop`.

    Log-probabilities are of an fp32 head, on the sampler's side too (`Transformer.head_in_fp32` is set here), and no
    attention score is rounded before its softmax: that halves what bf16 puts between the two (LOG.md, 2026-11-30). The
    experts and the sets of possible tokens are those that the sampler had. What a step did stands in its gradients'
    `figures`, means over all trained tokens: `entropy` in nats, `clipped_low` and `clipped_high` (shares without a
    gradient), `mismatch` (the truncated weight) and `mismatch_max` (before it is truncated), `ratio`, `ratio_max`, and
    `widening`, the adaptive clip's k.
    """

    def __init__(
        self,
        model: Transformer,
        settings: TrainSettings,
        objective: ObjectiveSettings,
        temperature: float = 1.0,
        mesh: Mesh = SINGLE,
        on_phase: Callable[[str], None] = lambda phase: None,
    ) -> None:
        """As a `TrainStep`; `temperature` is the sampler's. Raises `ValueError` as `check_policy_layout` does, and for
        a model that still has its prediction layer, which no rollout says anything of."""
        check_policy_layout(mesh.layout)
        if model.mtp is not None:
            raise ValueError("a climb leaves the prediction layer out: set mtp_weight = 0")
        super().__init__(model, settings, mesh, on_phase)
        model.head_in_fp32 = True
        self.objective = objective
        self._chosen, self._head, self._is_compiled = OBJECTIVES[objective.name], PolicyHead(temperature), False
        self._widening = torch.zeros((), dtype=torch.float64)  # the adaptive clip's k
        self._entropy = 0.0  # of the last gradients
        self._tally: Tally | None = None

    def compile(self) -> bool:
        self._is_compiled = super().compile()
        if self._is_compiled:
            self._head = self._head.compiled()
        return self._is_compiled

    def share(self, batch: PolicyBatch) -> PolicyBatch:
        """This process's rows of a whole batch, on its device; all processes get as many, and compiled code meets one
        number of tokens: the rest is filler."""
        data = self.mesh.layout.data
        step = data * self._rows_at_once(batch) if self._is_compiled else data
        num_rows = -(-len(batch.tokens_BT) // step) * step
        own = self.mesh.dp_rows(num_rows)
        return batch.filled(num_rows).rows(slice(own.start, own.stop)).to(next(self.model.parameters()).device)

    def with_old_logprobs(self, batch: PolicyBatch) -> PolicyBatch:
        """A process's share with what its tokens have under the weights as they are: for a batch of several updates,
        before the first. By the code of a training step, to the bit what that computes."""
        found = []
        with self._casts():
            for micro in batch.split(self._rows_at_once(batch)):
                self.on_phase("old log-probabilities")
                found.append(self._scores_of(micro)[0].logprobs_N.detach().view(micro.tokens_BT.shape))
        let_go(self.model)
        return batch._replace(old_logprobs_BT=torch.cat(found))

    def gradients(self, batch: PolicyBatch, stop: bool = False) -> Gradients:  # type: ignore[override]
        """As `TrainStep.gradients`, of the objective's loss; `batch` is this process's `share`."""
        gradients = super().gradients(batch, stop)  # type: ignore[arg-type]
        assert self._tally is not None
        figures = self._tally.figures(self.mesh)
        self._entropy = figures["entropy"]
        return gradients._replace(figures={**figures, "widening": self._widening.item()})

    def update(self, fraction: float, balances: list[Balance]) -> None:
        super().update(fraction, balances)
        self._widening.fill_(next_widening(self._widening.item(), self._entropy, self.objective))

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {"objective.widening": self._widening}

    def _passes(self, batch: Batch, stop: bool) -> Gradients:
        self._tally = Tally(batch.tokens_BT.device)
        return super()._passes(batch, stop)

    def _count_parts(self, micro_batches: list[PolicyBatch], device: torch.device) -> Tensor:  # type: ignore[override]
        count = torch.zeros(1, dtype=torch.int64, device=device)
        for micro in micro_batches:
            count += _num_rollouts(micro) if self._chosen.averages_rollouts else micro.is_trained_BT.sum()
        return count

    def _losses_of(self, micro: PolicyBatch) -> tuple[tuple[Tensor, ...], list[Balance]]:  # type: ignore[override]
        scores, balances = self._scores_of(micro)
        terms = terms_of(micro, scores.logprobs_N)
        outcome = self._chosen.outcome(terms, self.objective, self._widening.item())
        assert self._tally is not None
        self._tally.add(terms, outcome, scores.entropy_N, self.objective.mismatch_cap)
        return (torch.where(terms.is_trained_N, outcome.losses_N, 0.0).sum(),), balances

    def _scores_of(self, micro: PolicyBatch) -> tuple[Scores, list[Balance]]:
        attend = CausalAttention(micro.documents_BT, in_fp32=True)
        output = self.model(micro.tokens_BT, micro.positions_BT, attend, replayed_BTLK=micro.experts_BTLK)
        tokens_N, kept, head = micro.targets_BT.flatten().clamp_min(0), micro.kept_sets(), self.model.lm_head
        scores = as_forward(head, lambda hidden_ND: self._head(hidden_ND, head.weight, tokens_N, kept))
        return scores(output.hidden_BTD.flatten(0, 1)), [balance_of(layer) for layer in output.routing]

    def _rows_at_once(self, batch: PolicyBatch) -> int:
        """Of one forward pass."""
        tokens = self.settings.micro_batch_tokens or self.settings.batch_tokens
        return max(1, tokens // batch.tokens_BT.shape[1])


def terms_of(batch: PolicyBatch, logprobs_N: Tensor) -> Terms:
    """What the objectives are computed from, of a micro-batch."""
    is_trained_N, now_N = batch.is_trained_BT.flatten(), logprobs_N.detach()
    old_N = now_N if batch.old_logprobs_BT is None else batch.old_logprobs_BT.flatten()
    return Terms(
        torch.where(is_trained_N, logprobs_N, now_N),
        torch.where(is_trained_N, old_N, now_N),
        torch.where(is_trained_N, batch.sampler_logprobs_BT.flatten(), now_N),
        batch.advantages_BT.flatten(),
        _rollout_numbers(batch),
        is_trained_N,
    )


def _rollout_numbers(batch: PolicyBatch) -> Tensor:
    """Of every token (N,), less than N; that of filler is another's, which does no harm as it is not trained."""
    num_rows, length = batch.documents_BT.shape
    first_B1 = torch.arange(0, num_rows * length, length, device=batch.documents_BT.device)[:, None]
    return (first_B1 + (batch.documents_BT - 1).clamp_min(0)).flatten()


def _num_rollouts(batch: PolicyBatch) -> Tensor:
    """Those with a token that is trained."""
    is_trained_N = batch.is_trained_BT.flatten().long()
    return (torch.zeros_like(is_trained_N).index_add(0, _rollout_numbers(batch), is_trained_N) > 0).sum()


class Tally:
    """What a step did to its trained tokens, gathered on the device until the step is over."""

    _MEANS = "entropy", "clipped_low", "clipped_high", "mismatch", "ratio"
    _MAXIMA = "mismatch_max", "ratio_max"

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(len(self._MEANS) + 1, dtype=torch.float64, device=device)
        self._maxima = torch.zeros(len(self._MAXIMA), device=device)

    @torch.no_grad()
    def add(self, terms: Terms, outcome: Outcome, entropy_N: Tensor, cap: float) -> None:
        """Of a micro-batch."""
        ratio_N, mismatch_N = terms.ratio_N, terms.mismatch_N()
        of_tokens = entropy_N, outcome.is_low_N, outcome.is_high_N, mismatch_N.clamp(max=cap), ratio_N
        columns = torch.stack([each_N.double() for each_N in (*of_tokens, torch.ones_like(entropy_N))])
        self._sums += torch.where(terms.is_trained_N, columns, 0.0).sum(dim=1)
        largest = torch.where(terms.is_trained_N, torch.stack((mismatch_N, ratio_N)), 0.0).amax(dim=1)
        self._maxima = torch.maximum(self._maxima, largest)

    def figures(self, mesh: Mesh) -> dict[str, float]:
        """Over all processes, the same in each."""
        if mesh.layout.processes > 1:
            dist.all_reduce(self._maxima, dist.ReduceOp.MAX)
        *sums, count = mesh.sum(self._sums).tolist()
        means = {name: total / max(count, 1.0) for name, total in zip(self._MEANS, sums, strict=True)}
        return means | dict(zip(self._MAXIMA, self._maxima.tolist(), strict=True))


def check_policy_layout(layout: ParallelSettings) -> None:
    """Raise `ValueError` for a layout that a climb does not know."""
    for name in ("pipeline", "context", "vocabulary"):
        if (size := getattr(layout, name)) > 1:
            raise ValueError(f"[parallel] {name} = {size}: a climb spreads rollouts and experts only; set {name} = 1")
