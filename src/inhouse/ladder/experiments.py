"""Named experiments: what a ladder tries and no recipe has a key for. One is a context in which training is changed.

It replaces a function or a class where training looks it up, so only what is trained in this process sees it. An
experiment that a ladder has adopted becomes a setting, or the way things are; it does not stay here.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from inhouse.optim.schedule import warmup_steps
from inhouse.optim.settings import OptimizerSettings


class Experiment(NamedTuple):
    """What it is called after `--try`, what it does, the context that does it, and what no other may change too."""

    name: str
    about: str
    changed: Callable[[], AbstractContextManager[None]]
    what: str


@contextmanager
def applied(names: Sequence[str]) -> Iterator[None]:
    """Training inside the block is that of these experiments together."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(EXPERIMENTS[name].changed())
        yield


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


@contextmanager
def _adamw() -> Iterator[None]:
    import inhouse.train.step
    from inhouse.ladder.all_adamw import AllAdamW

    with _replaced(inhouse.train.step, "Optimizers", AllAdamW):
        yield


@contextmanager
def _random_outputs() -> Iterator[None]:
    from inhouse.common.dtensor import to_local
    from inhouse.model.random_weights import fill_normal
    from inhouse.model.transformer import Transformer

    initialize = Transformer.initialize

    def with_random_outputs(self: Transformer, seed: int) -> None:
        import torch

        initialize(self, seed)
        layers = 2 * self.config.num_layers  # that add to the residual stream (GPT-2, section 2.3)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")) and to_local(weight).numel():
                    fill_normal(weight, (layers * weight.shape[-1]) ** -0.5, seed, name)

    with _replaced(Transformer, "initialize", with_random_outputs):
        yield


def _schedule(fraction: Callable[[int, int, OptimizerSettings], float]) -> Callable[[], AbstractContextManager[None]]:
    @contextmanager
    def changed() -> Iterator[None]:
        import inhouse.train.loop
        import inhouse.train.metrics

        with (
            _replaced(inhouse.train.loop, "learning_rate_fraction", fraction),
            _replaced(inhouse.train.metrics, "learning_rate_fraction", fraction),
        ):
            yield

    return changed


def cosine(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """Warm-up, then half a cosine from 1 to `final_lr_fraction` (Loshchilov and Hutter, 2017)."""
    warmup = warmup_steps(num_steps, settings)
    if step < warmup:
        return (step + 1) / warmup
    done = (step + 1 - warmup) / max(1, num_steps - warmup)
    final = settings.final_lr_fraction
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def square_root(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """As the recipe's schedule, but its decay falls as 1 - √share (Hägele et al., 2024)."""
    from inhouse.optim.schedule import learning_rate_fraction

    fraction, final = learning_rate_fraction(step, num_steps, settings), settings.final_lr_fraction
    if step < warmup_steps(num_steps, settings) or final >= 1:
        return fraction
    into_decay = (1 - fraction) / (1 - final)
    return 1 - math.sqrt(max(0.0, into_decay)) * (1 - final)


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "adamw",
            "AdamW for matrices too, at the update size in RMS an element that Muon has",
            _adamw,
            "the optimizer",
        ),
        Experiment(
            "random-outputs", "output and down projections random, not zero, at the start", _random_outputs, "the start"
        ),
        Experiment("cosine", "the rates fall as half a cosine, without a flat part", _schedule(cosine), "the schedule"),
        Experiment("square-root", "the decay of the rates falls as 1 - √share", _schedule(square_root), "the schedule"),
    )
}
