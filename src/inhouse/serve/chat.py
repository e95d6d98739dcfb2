"""POST /v1/chat/completions: messages through the model's chat template."""

from collections.abc import Iterable
from typing import Any

from inhouse.api.protocol import ChatRequest
from inhouse.serve.choices import Candidate, Choice, Delta
from inhouse.serve.generation import OpenAIFace, jobs_of
from inhouse.serve.reasoning import CLOSE, OPEN, Reasoning
from inhouse.serve.served import Served

_LAST = 16  # tokens of a prompt that may hold an opening mark


class Chat(OpenAIFace[ChatRequest]):
    """One such request; its raw body is checked as it is made."""

    body_type, kinds, id_prefix = ChatRequest, ("chat.completion", "chat.completion.chunk"), "chatcmpl"

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        self.check_count(1)
        body = self.body
        max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        num_top = body.top_logprobs if body.logprobs else None
        self.prompts = [served.encode_messages(body.messages)]
        self.jobs = jobs_of(self, "messages", max_tokens=max_tokens, num_top=num_top)
        self.choices = [Choice(served.tokenizer, num_top=num_top) for _ in self.jobs]
        self._reasoning = [self._new_reasoning() for _ in self.jobs]

    def _new_reasoning(self) -> Reasoning | None:
        """None where the template knows of no thinking."""
        if CLOSE not in (self.served.chat_template or ""):
            return None
        (prompt,) = self.prompts
        is_open = self.served.tokenizer.decode(prompt[-_LAST:]).rstrip().endswith(OPEN)
        return Reasoning(is_open)

    def opening(self) -> Iterable[bytes]:
        """Every answer begins with its role."""
        message = {"role": "assistant", "content": "", "refusal": None}
        for job in range(len(self.jobs)):
            yield self.chunk(self.choice(job, Delta("", [], None)) | {"delta": message})

    def choice(self, job: int, delta: Delta) -> dict[str, Any]:
        reasoning = self._reasoning[job]
        thinking, text = reasoning.push(delta.text, delta.finish_reason is not None) if reasoning else ("", delta.text)
        said = {"reasoning_content": thinking} if thinking else {}
        if self.body.stream:
            content: dict[str, Any] = {"delta": said | ({"content": text} if text else {})}
        else:
            content = {"message": {"role": "assistant", "content": text, "refusal": None} | said}
        tokens = [
            _candidate(entry.chosen) | {"top_logprobs": [_candidate(candidate) for candidate in entry.top]}
            for entry in delta.entries
        ]
        logprobs = {"content": tokens, "refusal": None} if self.body.logprobs else None
        return {"index": job} | content | {"logprobs": logprobs, "finish_reason": delta.finish_reason}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"token": candidate.text, "bytes": list(candidate.raw), "logprob": candidate.logprob}
