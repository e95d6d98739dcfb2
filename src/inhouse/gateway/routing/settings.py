"""How the gateway weighs what it has measured."""

from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings


class RoutingSettings(Settings):
    """What a choice is worth: quality, less `per_cost` times its cost, less `per_second` times the time it takes."""

    margin: NonNegativeFloat = Field(
        default=0.02, le=1, description="of quality: an in-house model answers though another may be better by so much"
    )
    per_cost: NonNegativeFloat = Field(
        default=1.0, description="quality that one unit of the currency, spent on one request, must be worth"
    )
    per_second: NonNegativeFloat = Field(
        default=0.001, description="quality that one second until the end of an answer must be worth"
    )
    confidence: float = Field(
        default=0.5, ge=0, le=1, description="of a request's task; below it the task counts as unknown"
    )
    fewest: PositiveInt = Field(default=30, description="observations of a model at a task, below which none count")
    answer_tokens: PositiveInt = Field(default=500, description="of an answer, where nothing like it was measured")
    regions: tuple[str, ...] = Field(default=(), description="where requests may be computed; none: anywhere")
    fallbacks: dict[str, tuple[str, ...]] = Field(
        default={}, description="models that answer, in this order, where the one that a request names cannot"
    )
    sticky_seconds: NonNegativeFloat = Field(
        default=3600.0, description="a conversation stays with who answered it last, for so long after each answer"
    )
    labels: Path | None = Field(
        default=None, description='a file of requests whose task is known, a line each: {"text": "…", "task": "…"}'
    )


class WeightSettings(Settings):
    """What each kind of evidence counts beside the others; 0 leaves it out."""

    evaluations: NonNegativeFloat = Field(default=1.0, description="scores of `inhouse eval --scores`")
    boards: NonNegativeFloat = Field(default=0.5, description="battles, as points won against an average model")
    votes: NonNegativeFloat = Field(default=0.25, description="users' votes on answers of this gateway")


class BoardSettings(Settings):
    """A board of battles that is evidence for a task."""

    task: str = Field(min_length=1, description="the task that its battles were about")
    file: Path = Field(description="written by `inhouse arena board --json`")


class EvidenceSettings(Settings):
    """Where it is measured which model is how good at which task."""

    scores: tuple[Path, ...] = Field(default=(), description="files that `inhouse eval --scores` appends to")
    board: tuple[BoardSettings, ...] = Field(default=(), description="boards of battles")
    weights: WeightSettings = WeightSettings()
    read_again_seconds: PositiveFloat = Field(default=60.0, description="how often all of it is read again")
