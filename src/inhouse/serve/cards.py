"""What the served model is called and how long its context is, in the words of OpenAI's and of Anthropic's API."""

import time
from datetime import UTC, datetime
from typing import Any


class Cards:
    """The entries of /v1/models."""

    def __init__(self, name: str, context: int) -> None:
        self.name, self.context, self.created = name, context, int(time.time())

    def one(self, *, for_anthropic: bool) -> dict[str, Any]:
        if not for_anthropic:
            return {"id": self.name, "object": "model", "created": self.created, "owned_by": "inhouse"}
        created = datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z")
        return {
            "type": "model", "id": self.name, "display_name": self.name, "created_at": created, "lifecycle": "active",
            "max_input_tokens": self.context, "max_tokens": self.context,
        }  # fmt: skip

    def all(self, *, for_anthropic: bool) -> dict[str, Any]:
        """The one page of all there are."""
        cards = [self.one(for_anthropic=for_anthropic)]
        if not for_anthropic:
            return {"object": "list", "data": cards}
        return {"data": cards, "has_more": False, "first_id": self.name, "last_id": self.name}
