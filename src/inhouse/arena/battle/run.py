"""Fights the battles of a plan that are not in the log yet, and stores each vote as it is cast."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

from inhouse.api.wire.chat import ChatRequest
from inhouse.arena.battle.draw import draw
from inhouse.arena.battle.plan import EndpointSettings, Plan, Prompt, identity, read_prompts
from inhouse.arena.battle.voters import Ask, Voter, judge, verifier
from inhouse.arena.log_format import Body, read_key
from inhouse.arena.tampering import check_log
from inhouse.arena.vote_log import VoteLog
from inhouse.common.files import lock_folder
from inhouse.common.progress import Progress
from inhouse.environments.registry import environment_of
from inhouse.providers.address import key_from
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import ProviderError
from inhouse.providers.openai import OPENAI
from inhouse.providers.retries import Retries
from inhouse.providers.settings import LimitSettings

MOST_IN_A_ROW = 20  # battles that fail: an endpoint is down, and the rest would only wait for it


class Outcome(NamedTuple):
    """Battles that were stored now and before; those whose judge gave no verdict; those that failed, by why."""

    stored: int
    before: int
    without_verdict: int
    failed: Counter[str]
    is_given_up: bool

    def sentence(self) -> str:
        lines = [f"{self.stored:,} votes stored, {self.before:,} were there before"]
        if self.without_verdict:
            lines.append(f"{self.without_verdict:,} battles without a vote: the judge gave no verdict")
        lines += [f"{count:,} battles failed: {why}" for why, count in self.failed.most_common(3)]
        if self.is_given_up:
            lines.append(f"given up after {MOST_IN_A_ROW} failures in a row; the same command goes on")
        return "; ".join(lines)


def fight(plan: Plan) -> Outcome:
    """All battles of the plan but those that were stored before. Raises `ValueError` for a bad plan or log."""
    prompts, key = read_prompts(plan), read_key(plan.key)
    with lock_folder(plan.votes.with_name(f".{plan.votes.name}.battles")):  # two would fight the same battles
        return asyncio.run(_with_endpoints(plan, prompts, key))


async def _with_endpoints(plan: Plan, prompts: tuple[Prompt, ...], key: bytes) -> Outcome:
    async with AsyncExitStack() as stack:
        asks = [await _ask(stack, model, plan.at_once) for model in plan.models]
        if plan.judge is not None:
            voter = judge(await _ask(stack, plan.judge, 2 * plan.at_once))
        else:
            voter = verifier(environment_of(plan.environment or ""))
        return await fight_with(plan, prompts, VoteLog(plan.votes, plan.head, key), asks, voter)


async def _ask(stack: AsyncExitStack, model: EndpointSettings, connections: int) -> Ask:
    adapter, limits = {"openai": OPENAI, "anthropic": ANTHROPIC}[model.dialect], LimitSettings()
    endpoint = Endpoint(model.url, adapter, key_from(model.key_variable), limits, connections)
    await stack.enter_async_context(endpoint)
    retries = Retries(limits)

    async def ask(prompt: str) -> str:
        request = ChatRequest.model_validate(
            {"model": model.served()[1], "messages": [{"role": "user", "content": prompt}],
             "max_tokens": model.max_tokens}
        )  # fmt: skip
        return (await retries.ask(lambda: endpoint.ask(request))).text

    return ask


async def fight_with(
    plan: Plan, prompts: tuple[Prompt, ...], log: VoteLog, asks: Sequence[Ask], voter: Voter
) -> Outcome:
    """The same with whoever answers and votes given: one `Ask` a model of the plan."""
    log.join([model.name for model in plan.models])
    named, judged_by = identity(plan, prompts), plan.judge.name if plan.judge else f"verifier of {plan.environment}"
    done = _stored(log)
    wanted = [number for number in range(plan.battles) if f"{named}/{number}" not in done]
    before = plan.battles - len(wanted)
    weights = [model.weight for model in plan.models]
    numbers, stored, without, in_a_row, failed = iter(wanted), 0, 0, 0, Counter[str]()

    async def battle(number: int) -> Body | None:
        drawn, prompt = draw(weights, plan.seed, number), prompts[number % len(prompts)]
        left, right = await asyncio.gather(asks[drawn.left](prompt.text), asks[drawn.right](prompt.text))
        if (verdict := await voter(prompt, left, right)) is None:
            return None
        return {
            "left": plan.models[drawn.left].name, "right": plan.models[drawn.right].name, "winner": verdict.winner,
            "voter": judged_by, "voter_kind": "judges", "probability": drawn.probability, "prompt": prompt.text,
            "battle": f"{named}/{number}", "left_text": left, "right_text": right,
            **({"category": prompt.category} if prompt.category else {}),
            **({"orders": list(verdict.orders)} if verdict.orders else {}),
        }  # fmt: skip

    async def worker(progress: Progress) -> None:
        nonlocal stored, without, in_a_row
        for number in numbers:
            if in_a_row >= MOST_IN_A_ROW:
                return
            try:
                vote = await battle(number)
            except ProviderError as error:
                failed[str(error)] += 1
                in_a_row += 1
                continue
            in_a_row = 0
            if vote is None:
                without += 1
            else:
                log.append([vote])
                stored += 1
            progress.update()

    with Progress("battles", plan.battles, "battles", before) as progress:
        await asyncio.gather(*(worker(progress) for _ in range(plan.at_once)))
    return Outcome(stored, before, without, failed, in_a_row >= MOST_IN_A_ROW)


def _stored(log: VoteLog) -> set[str]:
    """The battles that have a vote."""
    entries = check_log(log.path, None, None).entries
    return {str(entry.body["battle"]) for entry in entries if entry.kind == "vote" and "battle" in entry.body}
