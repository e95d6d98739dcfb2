"""POST /v1/completions: raw prompts (text or token ids, one or a batch), echo, log-probabilities."""

from collections.abc import AsyncGenerator
from typing import Any

from starlette.concurrency import run_in_threadpool

from inhouse.api.events import admitted
from inhouse.api.protocol import CompletionRequest
from inhouse.serve.choices import Choice, Delta, Entry
from inhouse.serve.generation import check_count, collect, head, jobs_of, usage
from inhouse.serve.served import Served
from inhouse.serve.worker import Job

DEFAULT_MAX_TOKENS = 16  # the API's


async def answer(served: Served, body: CompletionRequest) -> dict[str, Any]:
    """The whole response."""
    prompts, jobs, choices = await _prepare(served, body)
    whole = await collect(served, jobs, choices)
    return head(served, "text_completion", "cmpl") | {
        "choices": [_choice(body, job, delta) for job, delta in enumerate(whole)],
        "usage": usage(prompts, choices),
    }


async def stream(served: Served, body: CompletionRequest) -> AsyncGenerator[dict[str, Any], None]:
    """Chunks in the order in which tokens come; `index` says whose. Admitted when this returns."""
    prompts, jobs, choices = await _prepare(served, body)
    return await admitted(_chunks(served, body, prompts, jobs, choices))


async def _chunks(
    served: Served, body: CompletionRequest, prompts: list[list[int]], jobs: list[Job], choices: list[Choice]
) -> AsyncGenerator[dict[str, Any], None]:
    opening = head(served, "text_completion", "cmpl")
    tail = {"usage": None} if body.include_usage else {}
    with served.worker.submit(jobs) as ticket:
        yield {}
        async for job, output in ticket.outputs():
            delta = choices[job].take(output)
            if delta.is_news:
                yield opening | {"choices": [_choice(body, job, delta)]} | tail
    if body.include_usage:
        yield opening | {"choices": [], "usage": usage(prompts, choices)}


async def _prepare(served: Served, body: CompletionRequest) -> tuple[list[list[int]], list[Job], list[Choice]]:
    """Token ids of the prompts, checked, and a job and a choice for each sequence."""
    served.check_model(body.model)
    check_count(served, body, len(body.prompt))
    prompts = await run_in_threadpool(_encode, served, body)
    for prompt in prompts:
        served.check_prompt(prompt, "prompt")
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else max(body.max_tokens, 1)
    jobs = jobs_of(
        served, body, prompts, max_tokens=max_tokens, num_top=body.logprobs,
        prompt_logprobs=body.echo and body.logprobs is not None,
    )  # fmt: skip
    choices = [
        Choice(
            served.tokenizer,
            num_top=body.logprobs,
            echo=prompt if body.echo else None,
            echo_only=body.max_tokens == 0,
            keep_ended=True,
        )
        for prompt, _ in jobs
    ]
    return prompts, jobs, choices


def _encode(served: Served, body: CompletionRequest) -> list[list[int]]:
    """An empty text is the beginning of a document, as in the API."""
    prompts = []
    for prompt in body.prompt:
        if isinstance(prompt, str):
            served.check_text(prompt, "prompt")
            prompt = served.tokenizer.encode_with_special(prompt) or [served.tokenizer.end_of_document]
        prompts.append(prompt)
    return prompts


def _choice(body: CompletionRequest, job: int, delta: Delta) -> dict[str, Any]:
    return {
        "index": job,
        "text": delta.text,
        "logprobs": None if body.logprobs is None else _logprobs(delta.entries),
        "finish_reason": delta.finish_reason,
    }


def _logprobs(entries: list[Entry]) -> dict[str, Any]:
    """The API's four parallel lists. `top_logprobs` holds the chosen token too; the prompt's first has nothing."""
    top = []
    for entry in entries:
        found: dict[str, float] = {}
        for candidate in [*entry.top, entry.chosen] if entry.top else []:
            found[candidate.text] = max(candidate.logprob, found.get(candidate.text, candidate.logprob))
        top.append(found)
    return {
        "tokens": [entry.chosen.text for entry in entries],
        "token_logprobs": [entry.chosen.logprob for entry in entries],
        "top_logprobs": top,
        "text_offset": [entry.start for entry in entries],
    }
