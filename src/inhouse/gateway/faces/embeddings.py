"""POST /v1/embeddings."""

import base64
import struct
from typing import Any

from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.providers.answers import Embedded


def embeddings_of(request: EmbeddingRequest, answer: Embedded) -> dict[str, Any]:
    """The response's body. Millions of numbers take time: not for the event loop."""
    as_text = request.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if as_text else vector}
        for index, vector in enumerate(answer.vectors)
    ]
    tokens = 0 if answer.usage is None else answer.usage.prompt
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": answer.model, "usage": usage, "data": data}


def _base64(vector: list[float]) -> str:
    """fp32, little-endian, as clients unpack it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
