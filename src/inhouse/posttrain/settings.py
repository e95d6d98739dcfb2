"""Settings of supervised fine-tuning."""

from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings
from inhouse.train.settings import TrainSettings


class GeneratedSettings(Settings):
    """How many conversations of each kind are made by code; 0 leaves a kind out."""

    addition: NonNegativeInt = Field(default=4_000, description="sums of two numbers up to 99, worked in columns")
    subtraction: NonNegativeInt = Field(default=4_000, description="differences of two numbers up to 99")
    brackets: NonNegativeInt = Field(default=1_500, description="whether brackets match")
    strings: NonNegativeInt = Field(default=3_000, description="reverse a word, count its letters, …")
    library: NonNegativeInt = Field(default=2_000, description="at most so many about Python modules in the corpus")


class SamplingDefaults(Settings):
    """How the finished model is sampled where a request does not say: generation_config.json."""

    temperature: float = Field(default=0.6, ge=0, le=2, description="0: always the most likely token")
    top_p: float = Field(default=0.95, gt=0, le=1)


class SftSettings(TrainSettings):
    """The `[sft]` table: on what, for how long, and how the model is sampled afterwards."""

    conversations: tuple[Path, ...] = Field(default=(), description='.jsonl files of {"messages": […]}, or folders')
    generated: GeneratedSettings = GeneratedSettings()
    epochs: PositiveFloat = Field(default=2.0, description="how often every conversation is seen")
    sequence_length: PositiveInt = Field(default=512, description="tokens of a row, filled with whole conversations")
    sampling: SamplingDefaults = SamplingDefaults()
    # lower rates than in pretraining: the base model's knowledge is to stay
    matrix_lr: PositiveFloat = Field(default=0.01, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=0.03, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=0.005, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=0.003, description="AdamW: norms and the router")

    def rows(self) -> int:
        """Rows of one optimizer step. Raises `ValueError` where they are not whole."""
        rows, rest = divmod(self.batch_tokens, self.sequence_length)
        if rest or not rows:
            nearest = max(1, round(self.batch_tokens / self.sequence_length)) * self.sequence_length
            raise ValueError(
                f"batch_tokens = {self.batch_tokens} is not a multiple of sequence_length = {self.sequence_length}; "
                f"nearest: {nearest}"
            )
        return rows
