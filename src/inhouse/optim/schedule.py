"""Warm-up, stable, decay: the learning rate of every step as a fraction of its flat value."""

import math

from inhouse.optim.settings import OptimizerSettings

LONGEST_WARMUP = 0.2  # of the steps: in a short run the rates must still be high for a while


def learning_rate_fraction(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """Linear warm-up, flat, then linear decay to `final_lr_fraction` at the last step (WSD; MiniCPM, section 4.2).

    The decay begins when the warm-up has ended at the earliest; a single step has neither.
    """
    if num_steps == 1:
        return 1.0
    warmup, decay = warmup_steps(num_steps, settings), _decay_steps(num_steps, settings)
    if step < warmup:
        return (step + 1) / warmup
    into_decay = min(1.0, max(0.0, (step + 1 - (num_steps - decay)) / decay))
    return 1.0 - into_decay * (1.0 - settings.final_lr_fraction)


def warmup_steps(num_steps: int, settings: OptimizerSettings) -> int:
    """Steps of the warm-up, at most a fifth of the run."""
    return min(settings.warmup_steps, int(LONGEST_WARMUP * num_steps))


def steps_before_decay(num_steps: int, settings: OptimizerSettings) -> int:
    """Steps whose rates a longer run of the same settings has too; 0 where the decay follows upon the warm-up."""
    steps = math.floor(num_steps - _decay_steps(num_steps, settings))
    return steps if steps > warmup_steps(num_steps, settings) else 0


def _decay_steps(num_steps: int, settings: OptimizerSettings) -> float:
    after_warmup = num_steps - warmup_steps(num_steps, settings)
    return max(1.0, min(settings.decay_fraction * num_steps, after_warmup))
