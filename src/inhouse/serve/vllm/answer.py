"""One sequence at vLLM: the request for it, and its tokens, with their text made here as our own engine makes it."""

import hashlib
import json
from collections.abc import AsyncIterator, Collection
from typing import Any

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import FinishReason, SamplingParams, StepOutput, TokenLogprobs
from inhouse.engine.text import TextStream
from inhouse.serve.vllm.grammars import as_lark
from inhouse.serve.vllm.program import MODEL

_UNKNOWN = TokenLogprobs(0.0, 0.0, [])
_AS_THEY_ARE = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "ignore_eos", "priority",
)  # fmt: skip


class Answer:
    """What ends it is decided here, by the same tokens and strings as with our own engine."""

    def __init__(
        self,
        prompt: list[int],
        params: SamplingParams,
        salt: str,
        tokenizer: Tokenizer,
        ends: Collection[int],
        context: int,
    ) -> None:
        self.prompt, self.params, self.salt, self.tokenizer = prompt, params, salt, tokenizer
        self._ends = set(params.stop_token_ids) | (set() if params.ignore_eos else set(ends))
        self._room = min(params.max_tokens, context - len(prompt))
        self._stream, self._count = TextStream(params.stop), 0

    def body(self) -> dict[str, Any]:
        """The request to /v1/completions. Stop strings are ours: vLLM would look for them in another text."""
        params = self.params
        body = {name: getattr(params, name) for name in _AS_THEY_ARE} | {
            "model": MODEL, "prompt": self.prompt, "max_tokens": self._room,
            "min_tokens": min(params.min_tokens, self._room), "stop_token_ids": sorted(self._ends),
            "stream": True, "stream_options": {"include_usage": True}, "skip_special_tokens": False,
            "return_token_ids": True, "return_tokens_as_token_ids": True,
        }  # fmt: skip
        if params.seed is not None:
            body["seed"] = params.seed
        if params.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias.items()}
        if params.drawn_logprobs or params.logprobs or params.prompt_logprobs:
            body |= {"logprobs": params.logprobs, "echo": params.prompt_logprobs}
        if self.salt:  # whatever characters it has
            body["cache_salt"] = hashlib.sha256(self.salt.encode()).hexdigest()
        if params.grammar is not None:
            body["structured_outputs"] = {"grammar": as_lark(params.grammar)}
        return body

    def take(self, choice: dict[str, Any]) -> list[StepOutput]:
        """The tokens of one chunk. Raises `ValueError` where vLLM has given up."""
        tokens: list[int] = choice.get("token_ids") or []
        said, finish = choice.get("logprobs"), choice.get("finish_reason")
        known = [_UNKNOWN] * len(tokens) if said is None else self._logprobs(said)
        first = len(known) - len(tokens)  # before it stand those of the prompt
        prompt_logprobs = known[1:first] if first else None
        outputs: list[StepOutput] = []
        for token, logprobs in zip(tokens, known[first:], strict=True):
            is_last = finish is not None and len(outputs) == len(tokens) - 1
            outputs.append(self._step(token, logprobs, finish if is_last else None, prompt_logprobs))
            prompt_logprobs = None
            if outputs[-1].finish_reason is not None:
                return outputs
        if finish is not None:
            raise ValueError(f"vLLM ended a sequence with {finish!r}")
        return outputs

    def _step(
        self, token: int, logprobs: TokenLogprobs, finish: str | None, prompt_logprobs: list[TokenLogprobs] | None
    ) -> StepOutput:
        self._count += 1
        reason: FinishReason | None = None
        text = ""
        if token in self._ends:
            reason = "stop"
        else:
            is_silent = token in self.tokenizer.skipped and token not in self.params.printed_ids
            text = self._stream.push(b"" if is_silent else self.tokenizer.decode_bytes([token]))
            if self._stream.stopped_by is not None or finish == "stop":
                reason = "stop"
            elif self._count == self._room or finish == "length":
                reason = "length"
        if reason is not None:
            text += self._stream.finish()
        return StepOutput(
            0, token, text, self._stream.num_characters, logprobs, 0, prompt_logprobs, reason,
            self._stream.stopped_by, None,
        )  # fmt: skip

    def _logprobs(self, said: dict[str, Any]) -> list[TokenLogprobs]:
        """Of each position; vLLM lists the drawn token too where it is not among the likeliest."""
        found = []
        for chosen, top in zip(said["token_logprobs"], said["top_logprobs"], strict=True):
            ranked = sorted((top or {}).items(), key=lambda pair: -pair[1])[: self.params.logprobs]
            pairs = [(int(name.removeprefix("token_id:")), logprob) for name, logprob in ranked]
            found.append(TokenLogprobs(0.0 if chosen is None else chosen, 0.0, pairs))
        return found


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The data of server-sent events, without the word that they end."""
    buffer = b""
    async for piece in pieces:
        *whole, buffer = (buffer + piece).split(b"\n\n")
        for event in whole:
            data = event.removeprefix(b"data:").strip()
            if data != b"[DONE]":
                yield json.loads(data)
