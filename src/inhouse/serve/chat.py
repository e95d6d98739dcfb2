"""POST /v1/chat/completions: messages through the model's chat template."""

from collections.abc import AsyncGenerator
from typing import Any

from starlette.concurrency import run_in_threadpool

from inhouse.api.events import admitted
from inhouse.api.protocol import ChatRequest
from inhouse.serve.choices import Candidate, Choice, Delta, Entry
from inhouse.serve.generation import check_count, collect, head, jobs_of, usage
from inhouse.serve.served import Served
from inhouse.serve.worker import Job


async def answer(served: Served, body: ChatRequest) -> dict[str, Any]:
    """The whole response."""
    prompt, jobs, choices = await _prepare(served, body)
    whole = await collect(served, jobs, choices)
    return head(served, "chat.completion", "chatcmpl") | {
        "choices": [
            {
                "index": job,
                "message": {"role": "assistant", "content": delta.text, "refusal": None},
                "logprobs": _logprobs(body, delta),
                "finish_reason": delta.finish_reason,
            }
            for job, delta in enumerate(whole)
        ],
        "usage": usage([prompt], choices),
    }


async def stream(served: Served, body: ChatRequest) -> AsyncGenerator[dict[str, Any], None]:
    """Chunks in the order in which tokens come; `index` says whose. Admitted when this returns."""
    prompt, jobs, choices = await _prepare(served, body)
    return await admitted(_chunks(served, body, prompt, jobs, choices))


async def _chunks(
    served: Served, body: ChatRequest, prompt: list[int], jobs: list[Job], choices: list[Choice]
) -> AsyncGenerator[dict[str, Any], None]:
    opening = head(served, "chat.completion.chunk", "chatcmpl")
    tail = {"usage": None} if body.include_usage else {}

    def chunk(job: int, content: dict[str, Any], delta: Delta) -> dict[str, Any]:
        choice = {"index": job, "delta": content, "logprobs": _logprobs(body, delta)}
        return opening | {"choices": [choice | {"finish_reason": delta.finish_reason}]} | tail

    with served.worker.submit(jobs) as ticket:
        yield {}
        for job in range(len(jobs)):
            yield chunk(job, {"role": "assistant", "content": "", "refusal": None}, Delta("", [], None))
        async for job, output in ticket.outputs():
            delta = choices[job].take(output)
            if delta.is_news:
                yield chunk(job, {"content": delta.text} if delta.text else {}, delta)
    if body.include_usage:
        yield opening | {"choices": [], "usage": usage([prompt], choices)}


async def _prepare(served: Served, body: ChatRequest) -> tuple[list[int], list[Job], list[Choice]]:
    """Token ids of the prompt, checked, and a job and a choice for each sample."""
    served.check_model(body.model)
    check_count(served, body, 1)
    prompt = await run_in_threadpool(served.encode_messages, body.messages)
    served.check_prompt(prompt, "messages")
    num_top = body.top_logprobs if body.logprobs else None
    jobs = jobs_of(served, body, [prompt], max_tokens=body.most_tokens, num_top=num_top)
    return prompt, jobs, [Choice(served.tokenizer, num_top=num_top) for _ in jobs]


def _logprobs(body: ChatRequest, delta: Delta) -> dict[str, Any] | None:
    return {"content": [_token(entry) for entry in delta.entries], "refusal": None} if body.logprobs else None


def _token(entry: Entry) -> dict[str, Any]:
    return _candidate(entry.chosen) | {"top_logprobs": [_candidate(candidate) for candidate in entry.top]}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"token": candidate.text, "bytes": list(candidate.raw), "logprob": candidate.logprob}
