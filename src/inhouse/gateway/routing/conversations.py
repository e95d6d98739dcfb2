"""Who answered each conversation last, so that it stays there. Held in this process: what is lost is decided anew."""

from collections import OrderedDict
from typing import NamedTuple

from inhouse.gateway.types import Target

_MOST = 100_000  # conversations; the one that was silent the longest is forgotten first


class Pin(NamedTuple):
    """Where a conversation is, and what it is about."""

    target: Target
    task: str
    confidence: float
    until: float  # wall clock, seconds


class Conversations:
    """The pins of the latest conversations."""

    def __init__(self) -> None:
        self._pins: OrderedDict[str, Pin] = OrderedDict()

    def get(self, conversation: str, now: float) -> Pin | None:
        pin = self._pins.get(conversation)
        return pin if pin is not None and now < pin.until else None

    def put(self, conversation: str, pin: Pin) -> None:
        self._pins[conversation] = pin
        self._pins.move_to_end(conversation)
        if len(self._pins) > _MOST:
            self._pins.popitem(last=False)
