"""Warm-up, stable, decay: the learning rate of every step as a fraction of its flat value."""

from inhouse.optim.settings import OptimizerSettings


def learning_rate_fraction(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """Linear warm-up, flat, then linear decay to `final_lr_fraction` at the last step (WSD; MiniCPM, section 4.2)."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    decay_steps = max(1.0, settings.decay_fraction * num_steps)
    into_decay = min(1.0, max(0.0, (step + 1 - (num_steps - decay_steps)) / decay_steps))
    return 1.0 - into_decay * (1.0 - settings.final_lr_fraction)
