"""The loop of a climb: a step learns from answers that its own weights gave, or those of some steps before."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from inhouse.checkpoint.checkpointer import Checkpointer, Resumed
from inhouse.common.errors import Refusal
from inhouse.common.progress import Progress
from inhouse.resilience.step_guard import Verdict
from inhouse.rl.learner import PolicyStep
from inhouse.rl.loop.batches import RolloutBatches
from inhouse.rl.loop.collapse import CollapseDetector, Vitals
from inhouse.rl.loop.figures import cut_share, num_sampled_tokens, pass_rate
from inhouse.rl.loop.step_log import StepLog
from inhouse.rl.settings import RlSettings
from inhouse.train.loop import Trainer
from inhouse.train.run_identity import default_settings, keys_that_may_change
from inhouse.train.step import Gradients

_BEST = "best"  # in the stage's folder: the weights with the best scores on held-out problems
HELDOUT_SCORES = "heldout_scores.jsonl"  # likewise


@dataclass(kw_only=True)
class Climb(Trainer):
    """Trains a policy on rollouts, which are sampled by its weights as they are when a batch is taken.

    Where the climb falls (`CollapseDetector`) it goes back to its last checkpoint and leaves out the batches since, so
    that it meets other problems. Once that was done `rewinds` times it ends, with the weights of its best score.
    `open_rollouts` makes the batches, once the learner stands.
    """

    settings: RlSettings
    open_rollouts: Callable[["Climb"], RolloutBatches]

    def __post_init__(self) -> None:
        self.detector = CollapseDetector(self.settings.collapse)
        self.rewinds = 0
        self.best: tuple[int, float] | None = None  # step, and score on held-out problems
        self.fallen: str | None = None  # why it ended early
        self._why: str | None = None  # it goes back
        self._trained_tokens = self._num_empty = 0
        self._seconds, self._since = 0.0, time.perf_counter()
        super().__post_init__()
        self._best_weights = Checkpointer(
            self.output / _BEST,
            self.run_identity,
            may_change=keys_that_may_change(self.settings),
            defaults=default_settings(self.settings),
        )
        self.rollouts = self.open_rollouts(self)

    @property
    def policy(self) -> PolicyStep:
        assert isinstance(self.step, PolicyStep)
        return self.step

    @property
    def tokens(self) -> int:
        """Sampled and learnt from."""
        return self._trained_tokens

    @property
    def seconds(self) -> float:
        """What this climb has taken, with earlier attempts up to the checkpoint that it went on from."""
        return self._seconds + time.perf_counter() - self._since

    def keep_best(self, score: float) -> None:
        """The weights as they are have the best score so far."""
        self.best = self.done, score
        self._best_weights.leave_behind(self.done)  # newer ones are of what a rewind, or a kill, has undone
        self._best_weights.save(self.done, self._weights())
        self._best_weights.wait()  # a checkpoint of the climb that knows of it must find it

    def extra(self) -> dict[str, Any]:
        own = {
            "detector": self.detector.state(), "rewinds": self.rewinds, "best": self.best, "fallen": self.fallen,
            "tokens": self._trained_tokens, "empty": self._num_empty, "seconds": self.seconds,
            "num_steps": self.num_steps, "pinned": self._pin_best(),
        }  # fmt: skip
        return super().extra() | {"climb": own}

    def _pin_best(self) -> int:
        """The best that the last checkpoint knows to which a rewind goes back: it stays, however many better ones
        come after it, since those do not count once it has gone back."""
        if self.best is not None and self.done % self.settings.checkpoint_every == 0:
            self._best_weights.pinned = self.best[0]
        return self._best_weights.pinned

    def _load(self, at_most: int | None = None) -> Resumed | None:
        resumed = super()._load(at_most)
        if resumed is not None:
            own = resumed.extra["climb"]
            self.detector.load_state(own["detector"])
            if at_most is None:  # else it goes back, which is to be counted, and its time has passed
                self.rewinds, self._seconds, self._since = own["rewinds"], own["seconds"], time.perf_counter()
                self.num_steps = own["num_steps"]
            self.best, self.fallen = own["best"] and tuple(own["best"]), own["fallen"]
            self._best_weights.pinned = own.get("pinned", 0)  # older checkpoints have none
            self._trained_tokens, self._num_empty = own["tokens"], own["empty"]
        return resumed

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.step.tensors().items() if name.startswith("model.")}

    def _new_step(self) -> PolicyStep:
        settings = self.settings
        return PolicyStep(
            self.model, settings, settings.objective, settings.temperature, self.mesh, self.supervisor.phase
        )

    def _open_batches(self) -> RolloutBatches:
        return self.rollouts

    def _reading(self) -> AbstractContextManager[None]:
        """Sampling is a part of a step, no wait for one."""
        self.supervisor.phase("rollouts")
        return nullcontext()

    def _is_asked_to_stop(self) -> bool:
        """Only where the next step begins with a sampling: else the weights that sampled it would be gone."""
        return super()._is_asked_to_stop() and (self.done + 1) % self.settings.updates == 0

    def _open_progress(self) -> Progress:
        return Progress(self.name, self.num_steps, "steps", done=self.done, shown=self.mesh.is_first)

    def _show_progress(self, num_steps: int, gradients: Gradients | None = None) -> None:
        figures = {} if gradients is None else {"right": round(pass_rate(self.rollouts.sampled.tried), 3)}
        self.progress.update(num_steps, **figures)

    def _measure_before(self) -> None:
        """The loss of a climb says nothing about what is learnt; scores on held-out problems do."""

    def _check_learned(self) -> None:
        """Where the climb has fallen, its best weights are taken."""
        if self.fallen and self.best is not None:
            step, score = self.best
            found = self._best_weights.load(self._weights(), at_most=step)
            if found is None or found.step != step:
                raise Refusal(f"{self._best_weights.folder}: the best weights, of step {step:,}, are gone")
            self.say(f"the weights are those of step {step:,}, whose score on held-out problems was {score:.3f}")
            self._log_best(step)

    def _log_best(self, step: int) -> None:
        """The scores of that step once more, behind all others: they are those of the weights that stay."""
        log = StepLog(self.output / HELDOUT_SCORES)
        rows = log.rows()
        if self.mesh.is_first and not any("weights_of" in row for row in rows):
            log.add(self.done, [row | {"step": self.done, "weights_of": step} for row in rows if row["step"] == step])

    def _judge(self, step: int, gradients: Gradients, due: int) -> Verdict:
        self._why = None
        if self._is_time_over():
            self.num_steps = step + 1
        if not self.rollouts.groups:
            return self._left_out(step)
        self._num_empty = 0
        verdict = super()._judge(step, gradients, due)
        self._trained_tokens += num_sampled_tokens(self.rollouts.groups)
        why = self.detector.observe(self._vitals(gradients)) if verdict is Verdict.APPLY else None
        if why is None:
            return verdict
        if self.rewinds < self.settings.collapse.rewinds:
            self.rewinds, self._why = self.rewinds + 1, why
            return Verdict.REWIND
        self.fallen, self.num_steps = why, step + 1
        self.say(f"fallen at step {step + 1:,}, after {self.rewinds} rewinds: {why}; the climb ends here")
        return Verdict.SKIP

    def _left_out(self, step: int) -> Verdict:
        """A step without a group to learn from. Raises `Refusal` after `max_skipped_steps` of them in a row."""
        self._num_empty += 1
        shortage = self.rollouts.sampled.shortage
        if self._num_empty >= self.settings.max_skipped_steps:
            raise Refusal(
                f"[rl] environments: nothing to learn from at step {step + 1:,}, as at the {self._num_empty - 1} "
                f"before it: {shortage}; choose easier problems, or harder ones, or more samples"
            )
        return Verdict.SKIP

    def _is_time_over(self) -> bool:
        minutes = self.settings.minutes
        return minutes is not None and self.seconds > 60 * minutes

    def _vitals(self, gradients: Gradients) -> Vitals:
        tried, figures = self.rollouts.sampled.tried, gradients.figures or {}
        return Vitals(figures["entropy"], pass_rate(tried), cut_share(tried), abs(figures["mismatch"] - 1))

    def _last_left_out(self, step: int) -> int:
        """The rest of a sampling, and what was sampled ahead, are by the weights that are given up."""
        updates = self.settings.updates
        return (step // updates + 1 + self.settings.staleness) * updates - 1

    def _reason_to_rewind(self, step: int, loss: float) -> str:
        return f"fallen at step {step + 1:,}: {self._why}" if self._why else super()._reason_to_rewind(step, loss)
