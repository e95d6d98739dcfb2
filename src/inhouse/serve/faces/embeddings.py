"""POST /v1/embeddings: for each input the mean of the model's last hidden states, at length 1."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from inhouse.api.errors import ApiError
from inhouse.api.middleware import Caller
from inhouse.api.wire.completions import Prompt
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.engine.request import SamplingParams
from inhouse.engine.scheduler import Origin
from inhouse.serve.admission import Job
from inhouse.serve.served import Served

_PARAMS = SamplingParams(max_tokens=1, temperature=0, embed=True)


class Embeddings:
    """One such request; its raw body is checked as it is made, which takes time: not on the event loop."""

    def __init__(self, served: Served, raw: bytes) -> None:
        self.served, self.body = served, EmbeddingRequest.parse(raw)
        served.check_model(self.body.model)
        self.prompts = [self._encode(text) for text in self.body.input]
        self.num_tokens, most = sum(map(len, self.prompts)), served.settings.max_embedding_tokens
        if self.num_tokens > most:
            message = f"The inputs have {self.num_tokens} tokens together, over the limit of {most}; send fewer."
            raise ApiError(400, message, param="input", code="invalid_value")

    def _encode(self, given: Prompt) -> list[int]:
        """What a text says is content, wherever it is from: the text of a special token in it stays text."""
        if isinstance(given, str):
            self.served.check_text(given, "input")
            given = self.served.tokenizer.encode(given)
        self.served.check_prompt(given, "input", may_fill=True)
        return given

    async def vectors(self, caller: Caller) -> list[np.ndarray]:
        """(D) fp32 each, in the order of the inputs."""
        found: list[np.ndarray] = []
        for wave in self._waves():
            own: dict[int, np.ndarray] = {}
            with self.served.worker.submit(
                wave, Origin(caller.name, salt=caller.salted(self.body.cache_salt))
            ) as ticket:
                async for job, output in ticket.outputs():
                    assert output.completion is not None and output.completion.embedding is not None
                    own[job] = output.completion.embedding
            found += [own[job] for job in range(len(wave))]
        if not all(np.isfinite(vector).all() for vector in found):  # the last token's were, or the engine would say so
            raise ApiError(500, "The request cannot be answered: the model's output for it is not a number.")
        return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in found]

    def _waves(self) -> Iterator[list[Job]]:
        """As many inputs at a time as one step of the engine takes: other requests get their turns in between."""
        settings = self.served.engine.settings
        wave: list[Job] = []
        room = 0
        for prompt in self.prompts:
            if wave and (len(prompt) > room or len(wave) == settings.max_sequences):
                yield wave
                wave = []
            room = (room if wave else settings.max_prefill) - len(prompt)
            wave.append((prompt, _PARAMS))
        yield wave

    def render(self, vectors: list[np.ndarray]) -> bytes:
        """The response's body. Millions of numbers take time, so vector by vector: the event loop goes on meanwhile."""
        usage = {"prompt_tokens": self.num_tokens, "total_tokens": self.num_tokens}
        head = json.dumps({"object": "list", "model": self.served.name, "usage": usage}, ensure_ascii=False)
        data = ",".join(json.dumps(self._item(*item)) for item in enumerate(vectors))
        return f'{head[:-1]}, "data": [{data}]}}'.encode()

    def _item(self, index: int, vector: np.ndarray) -> dict[str, Any]:
        if self.body.encoding_format == "base64":
            embedding: Any = base64.b64encode(vector.astype("<f4").tobytes()).decode()
        else:
            embedding = vector.tolist()
        return {"object": "embedding", "index": index, "embedding": embedding}
