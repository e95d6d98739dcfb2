"""What the parts of the gateway hand to each other. Money is whole nano-units of its currency: sums are exact."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from inhouse.api.wire.pieces import Usage

NANO = 10**9  # of one unit of the currency

Face = Literal["chat", "completions", "responses", "embeddings", "messages"]
METRICS = "metrics"  # beside the faces what a key may be for: to read what is counted


class Target(NamedTuple):
    """A model at a provider: what one attempt goes to."""

    provider: str
    model: str  # as requests name it
    upstream: str  # as the provider does


class Estimate(NamedTuple):
    """A score between 0 and 1 with its 95 % interval, from `n` observations."""

    mean: float
    low: float
    high: float
    n: int


class Candidate(NamedTuple):
    """One target as a decision saw it."""

    target: Target
    quality: Estimate | None  # None: no evidence
    cost: int  # nano, expected of this request
    latency: float | None  # seconds; None: never measured
    utility: float | None
    excluded: str | None  # the hard constraint that it does not meet, in words


class Decision(NamedTuple):
    """Who answers, and why."""

    task: str  # "" where it is unknown
    confidence: float  # of the task
    candidates: tuple[Candidate, ...]
    order: tuple[Target, ...]  # the first is asked first, the others where it fails
    reason: str  # one sentence
    has_declined: bool  # too little evidence: the configured default answers


class Caller(NamedTuple):
    """Whose key a call came with. Empty tuples: all."""

    key_id: str
    team: str
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()
    is_admin: bool = False
    groups: tuple[str, ...] = ()  # of early access
    keep_content_days: int = 0  # 0: content is not stored
    budget: int | None = None  # nano, of the key itself; None: none of its own
    budget_period: Literal["day", "month"] = "month"
    requests_per_minute: int = 0  # 0: no limit of its own
    tokens_per_minute: int = 0


@dataclass
class Attempt:
    """One try at one target. `outcome` is "" while it runs, then "answered", a `ProviderError.kind`, "abandoned" or
    "client gone"."""

    number: int
    target: Target
    started: float  # wall clock, seconds
    seconds: float = 0.0
    outcome: str = ""
    usage: Usage | None = None
    is_estimate: bool = False  # the provider never said what was used; with `usage` None nothing is known of it
    first_token: float | None = None  # seconds until something of the answer came


class CallRefused(Exception):
    """The gateway itself refuses a call: a scope, a limit, a budget, or nobody left who may answer."""

    def __init__(self, status: int, message: str, code: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after = status, message, code, retry_after
