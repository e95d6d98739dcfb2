"""What a recipe says about optimizers and the schedule of their rates."""

from pydantic import Field, PositiveFloat

from inhouse.common.settings import Settings

# For weights that are good already and that somebody else trained, with an embedding whose numbers are around 0.02:
# the defaults below would be through it in a step. AdamW's are those at which others fine-tune (1e-5 to 1e-4);
# bench/base_rates.py measures what rates gain on new text and lose on old.
RATES_OF_A_BASE = {
    "matrix_lr": 0.002, "embedding_lr": 5e-5, "head_lr": 5e-5, "scalar_lr": 1e-4, "router_lr": 1e-5,
}  # fmt: skip


class OptimizerSettings(Settings):
    """Learning rates, for the flat part of the schedule, and the schedule.

    The defaults are what bench/pretrain.py found for the preview's size; the dial (`recipe.dial`) gives other sizes
    theirs in pretraining and mid-training.
    """

    lr_factor: PositiveFloat = Field(default=1.0, description="times all the learning rates below: turn on this first")
    matrix_lr: PositiveFloat = Field(default=0.03, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=0.5, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=0.014, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=0.01, description="AdamW: norms")
    router_lr: PositiveFloat = Field(default=0.001, description="AdamW: the router; faster ones starve experts")
    adapter_lr: PositiveFloat = Field(default=0.0002, description="AdamW: adapters, where lora is given")
    weight_decay: float = Field(default=0.1, ge=0, description="of matrices, where it does not oppose the update")
    warmup_steps: int = Field(default=20, ge=0, description="at most a fifth of the run's steps")
    decay_fraction: float = Field(default=0.65, gt=0, le=1, description="the last part of the steps: linear decay")
    final_lr_fraction: float = Field(default=0.05, ge=0, le=1)
