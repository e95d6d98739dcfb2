"""The circuit breaker: who failed several times in a row is left alone for a while, then tried by one call.

It is shared by all calls of the process. A target that is open is asked after all others, never before; where nobody
else is left it is asked all the same, because an answer that may fail is better than none (Envoy's panic threshold).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.types import Target
from inhouse.providers.errors import (
    ContentFiltered,
    ContextTooLong,
    NotExpressible,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerFault,
)

_LONGEST_QUIET = 3600.0  # seconds: a mistaken date must not keep a target away for good
State = Literal["closed", "open", "half-open"]
_IS_ALIVE = (ContentFiltered, ContextTooLong, RequestRefused, NotExpressible)  # they say nothing about its health


@dataclass
class _Circuit:
    failures: int = 0  # in a row
    pauses: int = 0  # in a row that ended with a failed probe
    opens_at: float | None = None  # when a probe may go; None: closed
    is_probed: bool = False
    quiet_until: float = 0.0


class Breaker:
    """`monotonic` in seconds. Nothing here waits."""

    def __init__(self, settings: FailoverSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._monotonic = settings, monotonic
        self._circuits: dict[Target, _Circuit] = {}

    def state(self, target: Target) -> State:
        """Half-open: one call is trying it, or the next one may."""
        circuit = self._circuits.get(target)
        if circuit is None or circuit.opens_at is None:
            return "closed"
        return "half-open" if circuit.is_probed or circuit.opens_at <= self._monotonic() else "open"

    def is_open(self, target: Target) -> bool:
        """Whether it is to be asked last only: it is open, or another call is trying it."""
        circuit = self._circuits.get(target)
        if circuit is None or circuit.opens_at is None:
            return False
        return circuit.is_probed or circuit.opens_at > self._monotonic()

    def quiet(self, target: Target) -> float:
        """Seconds for which it asked to be left alone."""
        circuit = self._circuits.get(target)
        return max(circuit.quiet_until - self._monotonic(), 0.0) if circuit else 0.0

    def asked(self, target: Target) -> None:
        """A call goes there now: where a probe is due, this is it."""
        circuit = self._circuits.get(target)
        if circuit is not None and circuit.opens_at is not None and circuit.opens_at <= self._monotonic():
            circuit.is_probed = True

    def answered(self, target: Target) -> None:
        """It works: closed."""
        if (circuit := self._circuits.get(target)) is not None:
            self._circuits[target] = _Circuit(quiet_until=circuit.quiet_until)  # other calls were asked to wait

    def failed(self, target: Target, error: ProviderError) -> None:
        """Opens after some failures in a row, and again for twice as long after a failed probe."""
        if isinstance(error, _IS_ALIVE):
            self.undecided(target)
            return
        circuit = self._circuits.setdefault(target, _Circuit())
        if isinstance(error, RateLimited | ServerFault) and error.retry_after is not None:
            circuit.quiet_until = max(circuit.quiet_until, self._monotonic() + min(error.retry_after, _LONGEST_QUIET))
        circuit.failures += 1
        if circuit.is_probed:
            circuit.pauses += 1
        if circuit.is_probed or (circuit.failures >= self._settings.breaker_failures and circuit.opens_at is None):
            pause = self._settings.breaker_pause * 2.0 ** min(circuit.pauses, 30)
            circuit.opens_at = self._monotonic() + min(pause, self._settings.breaker_longest_pause)
            circuit.is_probed = False

    def undecided(self, target: Target) -> None:
        """The call that went there ended without telling anything of it: another may be the probe."""
        if (circuit := self._circuits.get(target)) is not None:
            circuit.is_probed = False
