"""POST /v1/chat/completions: messages through the model's chat template."""

from collections.abc import Iterable
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.writers.chat_writer import delta_of, message_of
from inhouse.serve.answer import Answer
from inhouse.serve.choices import Candidate, Delta
from inhouse.serve.faces.conversation import Conversation
from inhouse.serve.generation import OpenAIFace


class Chat(Conversation, OpenAIFace[ChatRequest]):
    """One such request."""

    kinds, id_prefix = ("chat.completion", "chat.completion.chunk"), "chatcmpl"

    def opening(self) -> Iterable[bytes]:
        """Every answer begins with its role."""
        message = {"role": "assistant", "content": "", "refusal": None}
        for job in range(len(self.jobs)):
            yield self.chunk(self.choice(job, Delta("", [], None)) | {"delta": message})

    def usage_details(self) -> dict[str, Any]:
        thinking = sum(self.num_thinking(job) for job in range(len(self.jobs)))
        return {"completion_tokens_details": {"reasoning_tokens": thinking}}

    def choice(self, job: int, delta: Delta) -> dict[str, Any]:
        answer = self.answers[job]
        pieces = answer.take(delta)
        content = {"delta": delta_of(pieces)} if self.body.stream else {"message": _message(answer)}
        tokens = [
            _candidate(entry.chosen) | {"top_logprobs": [_candidate(candidate) for candidate in entry.top]}
            for entry in delta.entries
        ]
        logprobs = {"content": tokens, "refusal": None} if self.body.logprobs else None
        return {"index": job} | content | {"logprobs": logprobs, "finish_reason": answer.finish_reason}


def _message(answer: Answer) -> dict[str, Any]:
    return message_of(answer.content, answer.thinking, [call._asdict() for call in answer.calls])


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"token": candidate.text, "bytes": list(candidate.raw), "logprob": candidate.logprob}
