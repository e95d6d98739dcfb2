"""POST /v1/chat/completions: messages through the model's chat template."""

from collections.abc import Iterable, Sequence
from typing import Any

from inhouse.api.protocol import ChatRequest
from inhouse.serve.answer import Answer, CallPiece, Content, Piece, Reading, Thinking
from inhouse.serve.choices import Candidate, Choice, Delta
from inhouse.serve.generation import OpenAIFace, jobs_of
from inhouse.serve.served import Served
from inhouse.serve.structured import compile_grammar, content_of
from inhouse.serve.tools import Tools, tools_of


class Chat(OpenAIFace[ChatRequest]):
    """One such request; its raw body is checked as it is made."""

    body_type, kinds, id_prefix = ChatRequest, ("chat.completion", "chat.completion.chunk"), "chatcmpl"

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        self.check_count(1)
        body = self.body
        max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        num_top = body.top_logprobs if body.logprobs else None
        tools = self._tools()
        prompt = served.encode_messages(body.messages, tools.functions if tools else ())
        self.prompts, self.reading = [prompt], Reading.of(served, prompt, tools)
        self.jobs = jobs_of(
            self,
            "messages",
            max_tokens=max_tokens,
            num_top=num_top,
            printed_ids=self.reading.printed_ids,
            grammar=compile_grammar(served, content_of(body, body.response_format), self.reading),
        )
        self.choices = [Choice(served.tokenizer, num_top=num_top) for _ in self.jobs]
        self.answers = [self.reading.new_answer() for _ in self.jobs]

    def _tools(self) -> Tools | None:
        body, choice = self.body, self.body.tool_choice
        functions = [tool.function for tool in body.tools]
        if isinstance(choice, str):
            return tools_of(self.served, functions, choice, is_parallel=body.parallel_tool_calls)
        return tools_of(self.served, functions, "function", choice.function.name)

    def opening(self) -> Iterable[bytes]:
        """Every answer begins with its role."""
        message = {"role": "assistant", "content": "", "refusal": None}
        for job in range(len(self.jobs)):
            yield self.chunk(self.choice(job, Delta("", [], None)) | {"delta": message})

    def choice(self, job: int, delta: Delta) -> dict[str, Any]:
        answer = self.answers[job]
        pieces = answer.take(delta)
        content = {"delta": _delta(pieces)} if self.body.stream else {"message": _message(answer)}
        tokens = [
            _candidate(entry.chosen) | {"top_logprobs": [_candidate(candidate) for candidate in entry.top]}
            for entry in delta.entries
        ]
        logprobs = {"content": tokens, "refusal": None} if self.body.logprobs else None
        return {"index": job} | content | {"logprobs": logprobs, "finish_reason": answer.finish_reason}


def _delta(pieces: Sequence[Piece]) -> dict[str, Any]:
    thinking = "".join(piece.text for piece in pieces if isinstance(piece, Thinking))
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    calls = [_call_piece(piece) for piece in pieces if isinstance(piece, CallPiece)]
    said = {"reasoning_content": thinking, "content": content, "tool_calls": calls}
    return {key: value for key, value in said.items() if value}


def _call_piece(piece: CallPiece) -> dict[str, Any]:
    """The first piece of a call says what it is."""
    head = {} if piece.id is None else {"id": piece.id, "type": "function"}
    name = {} if piece.name is None else {"name": piece.name}
    return {"index": piece.number} | head | {"function": name | {"arguments": piece.arguments}}


def _message(answer: Answer) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.calls
    ]
    content = answer.content or (None if calls else "")
    message = {"role": "assistant", "content": content, "refusal": None}
    thinking = {"reasoning_content": answer.thinking} if answer.thinking else {}
    return message | thinking | ({"tool_calls": calls} if calls else {})


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"token": candidate.text, "bytes": list(candidate.raw), "logprob": candidate.logprob}
