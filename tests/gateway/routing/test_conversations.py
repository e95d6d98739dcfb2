"""Conversations stay where they are for a while, and only so many are held."""

from tests.gateway.routing_parts import target

from inhouse.gateway.routing import conversations
from inhouse.gateway.routing.conversations import Conversations, Pin


def test_a_pin_ends_and_the_longest_silent_one_makes_room(monkeypatch: object) -> None:
    held = Conversations()
    monkeypatch.setattr(conversations, "_MOST", 2)  # type: ignore[attr-defined]
    for name in ("a", "b", "a", "c"):
        held.put(name, Pin(target("m"), "t", 1.0, until=100.0))
    assert held.get("a", 99.0) and held.get("c", 99.0)
    assert held.get("b", 99.0) is None
    assert held.get("a", 100.0) is None
