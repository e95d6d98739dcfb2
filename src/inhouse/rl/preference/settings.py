"""Settings of preference tuning."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.posttrain.settings import whole_rows
from inhouse.train.settings import TrainSettings


class PreferenceSettings(TrainSettings):
    """How a model learns from pairs of answers, and for how long.

    Rates are a tenth of those at which a finished model is fine-tuned: the answers' log-probabilities move, and little
    else is to.
    """

    beta: PositiveFloat | None = Field(
        default=None, description="what the log-ratios are multiplied with; default: 0.1, with length_normalised 5"
    )
    length_normalised: bool = Field(
        default=False, description="log-ratios a token of the answer, so that a long answer is not preferred as such"
    )
    epochs: PositiveFloat = Field(default=1.0, description="how often every pair is seen")
    sequence_length: PositiveInt = Field(default=1024, description="tokens of a row, filled with whole pairs")
    batch_tokens: PositiveInt = Field(default=16_384, le=1 << 40, description="tokens of one optimizer step")
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="of activations and products; masters: fp32")
    matrix_lr: PositiveFloat = Field(default=2e-4, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=5e-6, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=5e-6, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=1e-5, description="AdamW: norms")
    router_lr: PositiveFloat = Field(default=1e-6, description="AdamW: the router")
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices, where it does not oppose the update")
    balance_rate: float = Field(default=0.0, ge=0, description="step of the router's balancing bias")
    dropout: float = Field(default=0.0, ge=0, le=0, description="there is none: both models are to see the same")
    z_loss: float = Field(default=0.0, ge=0, le=0, description="there is none: log-ratios alone are learnt from")
    mtp_weight: float = Field(default=0.0, ge=0, le=0, description="a layer for multi-token prediction is left out")

    @property
    def scale(self) -> float:
        """β; as published 0.1 (Rafailov et al., 2023, section 6), of log-ratios a token 5 (Lambert et al., 2024)."""
        return self.beta if self.beta is not None else 5.0 if self.length_normalised else 0.1

    def rows(self) -> int:
        """Rows of one optimizer step. Raises `ValueError` where they are not whole."""
        return whole_rows(self.batch_tokens, self.sequence_length)
