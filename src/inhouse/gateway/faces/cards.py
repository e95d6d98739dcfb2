"""GET /v1/models: what a key may ask for, in the words of OpenAI's and of Anthropic's API."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Card(NamedTuple):
    """One model, whoever offers it; its limits in tokens."""

    name: str
    owner: str
    context: int | None = None
    max_output: int | None = None


def card(model: Card, created: int, *, for_anthropic: bool) -> dict[str, Any]:
    """`created`: seconds; when the gateway has started."""
    if not for_anthropic:
        return {"id": model.name, "object": "model", "created": created, "owned_by": model.owner}
    moment = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    return {
        "type": "model", "id": model.name, "display_name": model.name, "created_at": moment, "lifecycle": "active",
        "max_input_tokens": model.context, "max_tokens": model.max_output,
    }  # fmt: skip


def cards(models: Sequence[Card], created: int, *, for_anthropic: bool) -> dict[str, Any]:
    """The one page of all there are."""
    data = [card(model, created, for_anthropic=for_anthropic) for model in models]
    if not for_anthropic:
        return {"object": "list", "data": data}
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"data": data, "has_more": False} | ends
