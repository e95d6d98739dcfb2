"""What both generating endpoints do: sampling parameters, running the sequences, the parts that responses share."""

import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from inhouse.api.errors import ApiError
from inhouse.api.protocol import GenerationRequest
from inhouse.engine.request import SamplingParams
from inhouse.serve.choices import Choice, Delta
from inhouse.serve.served import Served
from inhouse.serve.worker import Job


def check_count(served: Served, body: GenerationRequest, num_prompts: int) -> None:
    """Refuse more sequences than one request may have; before any work goes into them."""
    if body.n * num_prompts > served.settings.max_choices:
        raise ApiError(
            400, f"{num_prompts} prompts times n = {body.n} are over the limit of {served.settings.max_choices}.",
            param="n", code="invalid_value",
        )  # fmt: skip


def jobs_of(
    served: Served,
    body: GenerationRequest,
    prompts: Sequence[list[int]],
    *,
    max_tokens: int | None,
    num_top: int | None,
    prompt_logprobs: bool = False,
) -> list[Job]:
    """n sequences a prompt, sample j with seed + j. The context's end bounds every answer."""
    jobs = [
        (
            prompt,
            SamplingParams(
                max_tokens=min(max_tokens or served.context, served.context - len(prompt)),
                temperature=body.temperature,
                top_p=max(body.top_p, 1e-6),  # the API allows 0: the likeliest token alone
                top_k=body.top_k,
                seed=None if body.seed is None else (body.seed + sample) % 2**63,
                stop=tuple(body.stop),
                logprobs=num_top or 0,
                prompt_logprobs=prompt_logprobs,
            ),
        )
        for prompt in prompts
        for sample in range(body.n)
    ]
    if num_top is not None:
        places = sum(params.max_tokens + len(prompt) * prompt_logprobs for prompt, params in jobs)
        if places * (num_top + 1) > served.settings.max_logprobs:
            raise ApiError(
                400, f"The answer could hold {places * (num_top + 1)} log-probabilities, over the limit of "
                f"{served.settings.max_logprobs}; ask for fewer tokens or choices.", param="logprobs",
            )  # fmt: skip
    return jobs


async def collect(served: Served, jobs: Sequence[Job], choices: Sequence[Choice]) -> list[Delta]:
    """Every job's whole answer, as one delta."""
    parts: list[list[Delta]] = [[] for _ in jobs]
    with served.worker.submit(jobs) as ticket:
        async for job, output in ticket.outputs():
            parts[job].append(choices[job].take(output))
    return [
        Delta("".join(d.text for d in part), [e for d in part for e in d.entries], part[-1].finish_reason)
        for part in parts
    ]


def head(served: Served, kind: str, prefix: str) -> dict[str, Any]:
    """The fields that open every response and every chunk."""
    return {"id": f"{prefix}-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": served.name}


def usage(prompts: Sequence[Sequence[int]], choices: Iterable[Choice]) -> dict[str, int]:
    """Prompts count once, however many answers they get."""
    prompt, completion = sum(map(len, prompts)), sum(choice.num_tokens for choice in choices)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
