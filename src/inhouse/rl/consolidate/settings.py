"""Settings of the traces that are sampled from climbs."""

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings


class TraceSettings(Settings):
    """From how much of a climb traces are, and which ones are kept."""

    checkpoints: PositiveInt = Field(default=8, description="of each climb, spread evenly over those that it has kept")
    problems: PositiveInt = Field(default=256, description="that each of these is asked, other ones every time")
    samples: PositiveInt = Field(default=4, description="answers to each problem")
    kept: PositiveInt = Field(default=2, description="right answers to a problem that are kept, at most")
    least_score: float = Field(default=1.0, gt=0, le=1, description="of an answer that counts as right")
    max_tokens: PositiveInt | None = Field(default=None, description="of an answer; default: as in the climb")
    temperature: PositiveFloat | None = Field(default=None, le=100, description="default: as in the climb")
    top_p: float | None = Field(default=None, gt=0, le=1, description="default: as in the climb")
    max_sequences: PositiveInt = Field(default=64, le=4096, description="answers that are sampled at the same time")
    workers: PositiveInt = Field(default=2, description="processes that score answers")
    verifier_seconds: PositiveFloat = Field(default=5.0, description="for one answer; what takes longer is not kept")
