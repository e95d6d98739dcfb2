"""An endpoint on a suite: asked many questions at a time, every answer kept, tokens and cost booked. No torch.

What is refused for its content or its length is an answer that is wrong. What fails for other reasons, after retries,
stays unanswered: the evaluation ends with a sentence, and goes on there when it is begun again.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import Usage
from inhouse.common.progress import Progress
from inhouse.evaluate.results import Answer, Key, ResultsWriter
from inhouse.evaluate.score import Score
from inhouse.evaluate.settings import EndpointSettings
from inhouse.evaluate.suite.booked import Booked, booked
from inhouse.evaluate.suite.reused import asked_hash, item_keys, reused
from inhouse.evaluate.suite.suite import Suite
from inhouse.evaluate.suite.summary import summarise
from inhouse.evaluate.suite.thinking import without_thinking
from inhouse.evaluate.tasks.task import Item, Message, Task
from inhouse.providers import answers, dialects
from inhouse.providers.address import check_address
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import ContentFiltered, ContextTooLong, ProviderError
from inhouse.providers.prices import Price, cost_of, price_of, read_prices
from inhouse.providers.retries import Retries
from inhouse.providers.settings import LimitSettings

MOST_FAILURES = 10  # in a row: then the endpoint is down, and asking the rest would only take long


class Target(NamedTuple):
    """Who is asked."""

    url: str
    model: str
    face: str
    key: SecretStr | None


class _Question(NamedTuple):
    task: Task
    number: int
    item: Item
    request: ChatRequest
    key: Key


def evaluate_endpoint(
    target: Target, suite: Suite, folder: Path, settings: EndpointSettings, limits: LimitSettings
) -> tuple[dict[str, Score], Booked]:
    """Scores of all tasks, and what they took; the results go to `folder`, where an earlier try goes on.

    Raises ValueError with a sentence: for tasks that an endpoint cannot be asked, before anything is sent; for an
    endpoint that refuses; and at the end where some questions got no answer.
    """
    url = check_address(target.url)
    endpoint = dialects.endpoint(target.face, url, target.key, limits, settings.concurrency)
    price = price_of(target.model, read_prices(settings.prices)) if settings.prices else None
    questions = [each for task in suite.tasks for each in _questions(task, target.model, settings)]
    about = {
        "model": target.model, "kind": "endpoint", "url": url, "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "suite": suite.name, "tasks": suite.settings, "inhouse": version("inhouse"),
        "settings": {"face": target.face, "temperature": settings.temperature, "max_tokens": settings.max_tokens},
    }  # fmt: skip
    with ResultsWriter(folder, about) as writer:
        asking = _Asking(questions, writer, price, limits)
        asyncio.run(asking.run(endpoint, settings.concurrency))
        asking.check_complete()
        given = [asking.answers[question.key] for question in questions]
        scores = summarise(given)
        writer.about["answered_by"] = sorted({answer.answered_by for answer in given if answer.answered_by})
        writer.finish(given, scores)
    return scores, booked(given)


def _questions(task: Task, model: str, settings: EndpointSettings) -> list[_Question]:
    if task.kind != "generation":
        raise ValueError(
            f"task {task.name} is of the kind {task.kind}, for which an endpoint gives no log-likelihoods: "
            "name the tasks that are generations with --task, or another suite"
        )
    items = list(task.items())
    keys = item_keys(task, items, [asked_hash(item, item.prompt, is_chat=True) for item in items])
    return [
        _Question(task, number, item, _request(task, item, model, settings), key)
        for number, (item, key) in enumerate(zip(items, keys, strict=True))
    ]


def _request(task: Task, item: Item, model: str, settings: EndpointSettings) -> ChatRequest:
    """Tools stand in an item's system message, and beside the messages in a request."""
    messages: list[Message] = []
    tools: list[Any] = []
    for message in item.as_chat():
        tools += message.get("tools", [])
        messages.append({key: value for key, value in message.items() if key != "tools"})
    asked: dict[str, Any] = {
        "model": model, "messages": messages, "tools": tools, "stop": list(task.stop),
        "max_tokens": settings.max_tokens or task.max_tokens,
    }  # fmt: skip
    if settings.temperature >= 0:
        asked["temperature"] = settings.temperature
    return ChatRequest.model_validate(asked)


class _Asking:
    """The questions that are left, the answers that are there, and what went wrong."""

    def __init__(
        self, questions: Sequence[_Question], writer: ResultsWriter, price: Price | None, limits: LimitSettings
    ) -> None:
        self.answers: dict[Key, Answer] = {}
        for question in questions:
            known = reused(writer.known, question.key, question.task, question.item, question.number)
            if known is not None:
                self.answers[question.key] = _priced(known, price)
        self._left = deque(question for question in questions if question.key not in self.answers)
        self._num, self._writer, self._price = len(questions), writer, price
        self._retries = Retries(limits)
        self._failures: Counter[str] = Counter()
        self._in_a_row, self._last = 0, ""

    async def run(self, endpoint: Endpoint, concurrency: int) -> None:
        """Raises ValueError where the endpoint refuses what will be refused again and again."""
        with Progress("evaluate", self._num, "items", done=len(self.answers)) as progress:
            async with endpoint:
                workers = [asyncio.ensure_future(self._work(endpoint, progress)) for _ in range(concurrency)]
                try:
                    await asyncio.gather(*workers)
                except ProviderError as error:
                    raise ValueError(str(error)) from None
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, endpoint: Endpoint, progress: Progress) -> None:
        while self._left and self._in_a_row < MOST_FAILURES:
            question = self._left.popleft()
            try:
                answer = await self._ask(endpoint, question)
            except ProviderError as error:
                if not error.may_retry:
                    raise
                self._failures[error.kind] += 1
                self._in_a_row, self._last = self._in_a_row + 1, str(error)
                continue
            self._in_a_row = 0
            self.answers[question.key] = answer
            self._writer.add([answer])
            progress.update(1, retries=self._retries.num_retries)

    async def _ask(self, endpoint: Endpoint, question: _Question) -> Answer:
        start = time.monotonic()

        async def once() -> answers.Answer:
            nonlocal start
            start = time.monotonic()
            return answers.gather([event async for event in endpoint.stream(question.request)])

        try:
            answer = await self._retries.ask(once)
        except (ContentFiltered, ContextTooLong):
            seconds, flags = time.monotonic() - start, {"refused": 1.0, "cut_off": 0.0}
            return await asyncio.to_thread(self._answer, question, "", None, seconds, flags)
        flags = {"refused": float(answer.reason == "content_filter"), "cut_off": float(answer.reason == "length")}
        said, seconds = answers.as_text(answer), time.monotonic() - start
        judged = await asyncio.to_thread(self._answer, question, said, answer.usage, seconds, flags)  # a sandbox waits
        return judged._replace(answered_by=answer.model or None)

    def _answer(
        self, question: _Question, said: str, usage: Usage | None, seconds: float, flags: dict[str, float]
    ) -> Answer:
        task, item, (_, hashed, prompt_hash, *_) = question.task, question.item, question.key[0]
        judged = task.score(item, without_thinking(said))
        return Answer(
            task.name, hashed, question.number, item.cluster, item.prompt, prompt_hash, item.gold_text, said,
            judged.metrics | flags, [], round(seconds, 3), usage and usage.prompt, usage and usage.completion,
            cost_of(usage, self._price), why=judged.why,
        )  # fmt: skip

    def check_complete(self) -> None:
        """Raises ValueError saying how many questions got no answer, and why."""
        missing = self._num - len(self.answers)
        if missing:
            kinds = ", ".join(f"{count} times {kind}" for kind, count in self._failures.most_common())
            raise ValueError(
                f"{missing} of {self._num} questions got no answer ({kinds}; the last: {self._last}): "
                "run the same again, and only these are asked"
            )


def _priced(answer: Answer, price: Price | None) -> Answer:
    """An earlier answer that was asked without a price; with a price of its own for cached tokens, which were not
    kept, its cost stays unknown."""
    tokens_in, tokens_out = answer.tokens_in, answer.tokens_out
    if answer.cost is not None or price is None or price.cached is not None or tokens_in is None or tokens_out is None:
        return answer
    return answer._replace(cost=price.cost(Usage(tokens_in, 0, tokens_out, 0)))
