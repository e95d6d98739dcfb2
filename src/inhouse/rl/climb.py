"""The loop of a climb: a step learns from answers that its own weights gave, or those of some steps before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from inhouse.checkpoint.checkpointer import Checkpointer, Resumed
from inhouse.common.progress import Progress
from inhouse.resilience.step_guard import Verdict
from inhouse.rl.collapse import CollapseDetector, Vitals
from inhouse.rl.learner import PolicyStep
from inhouse.rl.queue import RolloutQueue
from inhouse.rl.settings import RlSettings
from inhouse.train.loop import Trainer
from inhouse.train.prefetch import Batches
from inhouse.train.run_identity import KEYS_THAT_MAY_CHANGE
from inhouse.train.step import Gradients

_BEST = "best"  # in the stage's folder: the checkpoints of the best scores on held-out problems


@dataclass(kw_only=True)
class Climb(Trainer):
    """Trains a policy on the batches of `queue`, which samples with the weights as they are when a batch is taken.

    Where the climb falls (`CollapseDetector`) it goes back to its last checkpoint and leaves out the batches since, so
    that it meets other problems; the `rewinds`-and-first time it ends, with the weights of its best score.
    """

    settings: RlSettings
    queue: RolloutQueue

    def __post_init__(self) -> None:
        self.detector = CollapseDetector(self.settings.collapse)
        self.rewinds = 0
        self.best: tuple[int, float] | None = None  # step and score on held-out problems
        self.fallen: str | None = None  # why it ended
        self._trained_tokens = 0
        self._seconds, self._since = 0.0, time.perf_counter()
        super().__post_init__()
        self._best_checkpoints = Checkpointer(self.output / _BEST, self.run_identity, alone=True)

    @property
    def tokens(self) -> int:
        """Sampled and learnt from."""
        return self._trained_tokens

    @property
    def seconds(self) -> float:
        """That this climb has taken, earlier attempts up to their last checkpoint included."""
        return self._seconds + time.perf_counter() - self._since

    def keep_best(self, score: float) -> None:
        """The weights as they are have the best score so far."""
        self.best = self.done, score
        self._best_checkpoints.save(self.done, self._weights())
        self._best_checkpoints.wait()  # a checkpoint of the climb that knows of it must find it

    def extra(self) -> dict[str, Any]:
        own = {
            "detector": self.detector.state(), "rewinds": self.rewinds, "best": self.best, "fallen": self.fallen,
            "tokens": self._trained_tokens, "seconds": self.seconds, "learner": self.policy.state(),
        }  # fmt: skip
        return super().extra() | {"climb": own}

    @property
    def policy(self) -> PolicyStep:
        assert isinstance(self.step, PolicyStep)
        return self.step

    def _new_step(self) -> PolicyStep:
        return PolicyStep(self.model, self.settings, self.mesh, self.supervisor.phase)

    def _open_batches(self) -> Batches:
        self.queue.serve(self)
        return self.queue

    def _measure_before(self) -> None:
        pass

    def _check_learned(self) -> None:
        """The loss of a climb says nothing about what was learned; where it fell, what was best is taken."""
        if self.fallen and self.best is not None:
            self._best_checkpoints.load(self._weights(), at_most=self.best[0])
            self.say(f"ends with the weights of step {self.best[0]:,}, whose held-out score was {self.best[1]:.3f}")

    def _open_progress(self) -> Progress:
        return Progress(self.name, self.num_steps, "steps", done=self.done, shown=self.mesh.is_first)

    def _show_progress(self, num_steps: int, gradients: Gradients | None = None) -> None:
        figures = {} if gradients is None else {"right": self.queue.now.pass_rate}
        self.progress.update(num_steps, **figures)

    def _judge(self, step: int, gradients: Gradients, due: int) -> Verdict:
        verdict = super()._judge(step, gradients, due)
        self._trained_tokens += self.queue.now.num_tokens
        if self.settings.minutes is not None and self.seconds > 60 * self.settings.minutes:
            self.num_steps = step + 1
        if verdict is not Verdict.APPLY:
            return verdict
        why = self.detector.observe(vitals(self.queue, gradients))
        if why is None:
            return verdict
        if self.rewinds < self.settings.collapse.rewinds:
            self.rewinds += 1
            self.say(f"step {step + 1:,}: {why}")
            return Verdict.REWIND
        self.fallen, self.num_steps = why, step + 1
        self.say(f"step {step + 1:,}: {why}, after {self.rewinds} rewinds: the climb ends here")
        return Verdict.SKIP
