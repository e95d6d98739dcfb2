"""The one way of a generating request: from its body to jobs for the engine, and back as a whole answer or a stream.

An endpoint is a subclass of `Face` in a file of its own, which says what to generate and how the answer is written.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4

from inhouse.api.errors import ApiError
from inhouse.api.events import COMMENT, DONE, event
from inhouse.api.middleware import Caller
from inhouse.api.wire.generation import GenerationRequest
from inhouse.engine.request import SamplingParams, ThinkingLimit
from inhouse.engine.scheduler import Origin
from inhouse.serve.admission import Job
from inhouse.serve.choices import Choice, Delta
from inhouse.serve.served import Served

SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")  # as the model's folder says, if not here
Body = TypeVar("Body", bound=GenerationRequest)


class Face(ABC, Generic[Body]):
    """One request to a generating endpoint. To encode a long one takes time: not made on the event loop."""

    body_type: type[Body]
    ping: ClassVar[bytes] = COMMENT  # of a stream that has nothing to say
    prompts: Sequence[list[int]]
    jobs: list[Job]
    choices: list[Choice]  # one for each job

    def __init__(self, served: Served, raw: bytes) -> None:
        """A subclass goes on to fill the three above."""
        self.served, self.body = served, self.read(raw)
        served.check_model(self.body.model)

    def read(self, raw: bytes) -> Body:
        """What is asked, in the words that all faces share. Raises `ApiError`."""
        return self.body_type.parse(raw)

    def check_count(self, num_prompts: int) -> None:
        """Refuse more sequences than one request may have; before any work goes into them."""
        n, most = self.body.n, self.served.settings.max_choices
        if n * num_prompts > most:
            message = f"{num_prompts} prompts times n = {n} are over the limit of {most}."
            raise ApiError(400, message, param="n", code="invalid_value")

    def origin(self, caller: Caller) -> Origin:
        return Origin(caller.name, salt=caller.salted(self.body.cache_salt))

    async def answer(self, caller: Caller) -> dict[str, Any]:
        """The whole response."""
        parts: list[list[Delta]] = [[] for _ in self.jobs]
        with self.served.worker.submit(self.jobs, self.origin(caller)) as ticket:
            async for job, output in ticket.outputs():
                parts[job].append(self.choices[job].take(output))
        return self.whole([Delta.join(part) for part in parts])

    async def stream(self, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Events in the order in which tokens come. The first is empty and says that the request was admitted: until
        then a refusal can still be an HTTP status, and from then on closing the generator frees its places.

        What happens later is an event with the error and no end, so that nobody takes the answer for whole.
        """
        with self.served.worker.submit(self.jobs, self.origin(caller)) as ticket:
            yield b""
            try:
                for piece in self.opening():
                    yield piece
                async for job, output in ticket.outputs():
                    delta = self.choices[job].take(output)
                    if delta.is_news:
                        for piece in self.news(job, delta):
                            yield piece
            except ApiError as error:
                for piece in self.failing(error):
                    yield piece
                return
        for piece in self.closing():
            yield piece

    @abstractmethod
    def whole(self, answers: list[Delta]) -> dict[str, Any]:
        """The response's body, with every job's answer."""

    def opening(self) -> Iterable[bytes]:
        """Events before the first token."""
        return ()

    @abstractmethod
    def news(self, job: int, delta: Delta) -> Iterable[bytes]:
        """Events of what is new in one job's answer."""

    def closing(self) -> Iterable[bytes]:
        """Events after the last token."""
        return ()

    def failing(self, error: ApiError) -> Iterable[bytes]:
        """Events of an answer that cannot go on."""
        yield event(error.body())


class OpenAIFace(Face[Body]):
    """What /v1/chat/completions and /v1/completions share: a head, a list of choices, and how many tokens it took."""

    kinds: ClassVar[tuple[str, str]]  # of a whole answer and of a chunk
    id_prefix: ClassVar[str]

    @cached_property
    def _head(self) -> dict[str, Any]:
        identity, kind = f"{self.id_prefix}-{uuid4().hex}", self.kinds[self.body.stream]
        return {"id": identity, "object": kind, "created": int(time.time()), "model": self.served.name}

    @abstractmethod
    def choice(self, job: int, delta: Delta) -> dict[str, Any]:
        """One job's answer, or what is new in it."""

    def whole(self, answers: list[Delta]) -> dict[str, Any]:
        choices = [self.choice(job, answer) for job, answer in enumerate(answers)]
        return self._head | {"choices": choices, "usage": self._usage()}

    def news(self, job: int, delta: Delta) -> Iterable[bytes]:
        yield self.chunk(self.choice(job, delta))

    def chunk(self, choice: dict[str, Any]) -> bytes:
        """The event around what is new in one answer."""
        return event(self._head | {"choices": [choice]} | ({"usage": None} if self.body.include_usage else {}))

    def closing(self) -> Iterable[bytes]:
        if self.body.include_usage:
            yield event(self._head | {"choices": [], "usage": self._usage()})
        yield DONE

    def _usage(self) -> dict[str, Any]:
        """Prompts count once, however many answers they get: as the first of each had them in the cache."""
        prompt, completion = sum(map(len, self.prompts)), sum(choice.num_tokens for choice in self.choices)
        cached = sum(choice.num_cached for choice in self.choices[:: self.body.n])
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        } | self.usage_details()

    def usage_details(self) -> dict[str, Any]:
        """More of the usage, where an endpoint knows more."""
        return {}


def jobs_of(
    face: Face[Body],
    param: str,
    *,
    max_tokens: int | None,
    num_top: int | None,
    prompt_logprobs: bool = False,
    printed_ids: tuple[int, ...] = (),
    grammar: str | None = None,
    thinking: ThinkingLimit | None = None,
) -> list[Job]:
    """n sequences for each of a face's prompts, which were sent as `param`, sample j with seed + j. The context's end
    bounds every answer. Special tokens among `printed_ids` are part of its text, which follows the `grammar`; it thinks
    as long as `thinking` says."""
    body, context, limits = face.body, face.served.context, face.served.settings
    for prompt in face.prompts:
        face.served.check_prompt(prompt, param)
    said = {name: value for name in SAMPLED if (value := getattr(body, name)) is not None}
    sampled = face.served.sampling.model_dump(include=set(SAMPLED)) | said
    sampled["top_p"] = max(sampled["top_p"], 1e-6)  # the API allows 0: the likeliest token alone
    jobs = [
        (
            prompt,
            SamplingParams(
                max_tokens=min(max_tokens or context, context - len(prompt)),
                **sampled,
                presence_penalty=body.presence_penalty,
                frequency_penalty=body.frequency_penalty,
                logit_bias=body.logit_bias,
                min_tokens=body.min_tokens,
                ignore_eos=body.ignore_eos,
                priority=body.priority,
                stop_token_ids=tuple(body.stop_token_ids),
                seed=None if body.seed is None else (body.seed + sample) % 2**63,
                stop=tuple(body.stop),
                logprobs=num_top or 0,
                drawn_logprobs=num_top is not None,
                prompt_logprobs=prompt_logprobs,
                printed_ids=printed_ids,
                grammar=grammar,
                thinking=thinking,
            ),
        )
        for prompt in face.prompts
        for sample in range(body.n)
    ]
    if num_top is not None:
        num_tokens = sum(params.max_tokens + len(prompt) * prompt_logprobs for prompt, params in jobs)
        if num_tokens * (num_top + 1) > limits.max_logprobs:
            raise ApiError(
                400, f"The answer could hold {num_tokens * (num_top + 1)} log-probabilities, over the limit of "
                f"{limits.max_logprobs}; ask for fewer tokens or choices.", param="logprobs",
            )  # fmt: skip
    return jobs
