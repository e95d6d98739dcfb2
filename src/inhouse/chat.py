"""A model to talk to: found in a run, an export or any folder in Hugging Face layout, and opened in the engine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from inhouse.common.model_paths import find_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.opened_model import open_folder

Message = dict[str, Any]


class Model:
    """An opened model: `chat` answers messages, `complete` goes on from a text, each also as a stream of pieces.

    Without `params` the likeliest token is taken, as long as the context has room.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, chat_template: str | None) -> None:
        self.engine, self.tokenizer, self.chat_template = engine, tokenizer, chat_template

    @classmethod
    def load(cls, path: str | Path, dtype: str = "fp32") -> Self:
        """Open a run folder, an exported folder or any Hugging Face folder of an architecture that inhouse knows.

        It computes in `dtype` (fp32 or bf16), on the GPU where there is one.

        Raises `ValueError` where there is no model, or one that inhouse does not compute.
        """
        opened = open_folder(find_model(Path(path)), dtype)
        return cls(opened.engine(), opened.tokenizer, opened.chat_template)

    def chat(self, messages: str | Sequence[Message], params: SamplingParams | None = None) -> str:
        """The assistant's answer to a conversation, or to one user message given as plain text."""
        return "".join(self.stream_chat(messages, params))

    def stream_chat(self, messages: str | Sequence[Message], params: SamplingParams | None = None) -> Iterator[str]:
        """`chat`, piece by piece as it is generated. Raises `ValueError` for a base model: it was taught no turns."""
        if self.chat_template is None:
            raise ValueError("this is a base model, without a chat template: use complete, which goes on from a text")
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self._stream(encode_prompt(self.tokenizer, messages, template=self.chat_template), params)

    def stream(self, messages: str | Sequence[Message], params: SamplingParams | None = None) -> Iterator[str]:
        """`stream_chat`, or for a base model `stream_complete` from the last message."""
        if self.chat_template is not None:
            return self.stream_chat(messages, params)
        return self.stream_complete(messages if isinstance(messages, str) else messages[-1]["content"], params)

    def recent(self, messages: Sequence[Message], room: int) -> list[Message]:
        """The newest exchanges that leave `room` tokens of the context for an answer; the last message always stays."""
        kept = list(messages)
        while self.chat_template is not None and len(kept) > 2:
            length = len(encode_prompt(self.tokenizer, kept, template=self.chat_template))
            if length + room <= self.engine.max_context:
                break
            del kept[:2]  # a question and its answer
        return kept

    def complete(self, text: str, params: SamplingParams | None = None) -> str:
        """What comes after `text`."""
        return "".join(self.stream_complete(text, params))

    def stream_complete(self, text: str, params: SamplingParams | None = None) -> Iterator[str]:
        """`complete`, piece by piece."""
        return self._stream([self.tokenizer.end_of_document, *self.tokenizer.encode(text)], params)

    def _stream(self, prompt: list[int], params: SamplingParams | None) -> Iterator[str]:
        params = params or SamplingParams(max_tokens=max(1, self.engine.max_context - len(prompt)), temperature=0.0)
        for output in self.engine.stream(prompt, params):
            yield output.text
