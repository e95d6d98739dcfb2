"""A model's answers to the tasks of a suite, each kept as it comes; what is answered already is not asked again."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inhouse.common.progress import Progress
from inhouse.engine.continuations import Scored, log_likelihoods
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams, checked
from inhouse.evaluate.bits_per_byte import document_bits
from inhouse.evaluate.results import Answer, Choice, ResultsWriter, item_hash
from inhouse.evaluate.suite.encoded_item import EncodedItem, encode_items
from inhouse.evaluate.suite.reused import asked_hash, item_keys, reused
from inhouse.evaluate.suite.summary import TRUNCATED, choice_metrics
from inhouse.evaluate.suite.thinking import CLOSE, OPEN, without_thinking
from inhouse.evaluate.tasks.task import Item, Task
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.opened_model import OpenedModel

_ENCODED = 1_000  # items at a time
_AHEAD = 128  # requests that the engine knows of: it looks through all that wait

Numbered = tuple[int, Item]
Answered = Iterator[list[tuple[int, Answer]]]


class Runner:
    """Answers tasks with one opened model. Where it has a chat template, questions are asked as a user's messages."""

    def __init__(self, opened: OpenedModel) -> None:
        self.opened, self.tokenizer = opened, opened.tokenizer
        self.context = opened.model.config.max_position
        self._engine: Engine | None = None
        opened.pack()

    def answer(self, task: Task, items: Sequence[Item], writer: ResultsWriter) -> list[Answer]:
        """An answer to each of a task's items, in their order. Raises ValueError where an item cannot be asked."""
        prompts = [self._prompt(task, item) for item in items]
        is_chat = task.kind == "generation" and self.opened.chat_template is not None
        hashes = [asked_hash(item, prompt, is_chat) for item, prompt in zip(items, prompts, strict=True)]
        answers: dict[int, Answer] = {}
        for number, (item, key) in enumerate(zip(items, item_keys(task, items, hashes), strict=True)):
            if (known := reused(writer.known, key, task, item, number)) is not None:
                answers[number] = known
        left = [(number, item) for number, item in enumerate(items) if number not in answers]
        ask = self._generate if task.kind == "generation" else self._choose
        with Progress(task.name, len(items), "items", done=len(answers)) as progress:
            for group in ask(task, left):
                made = {
                    number: answer._replace(prompt=prompts[number], prompt_hash=hashes[number])
                    for number, answer in group
                }
                writer.add(made.values())
                answers |= made
                progress.update(len(made))
        return [answers[number] for number in range(len(items))]

    def _prompt(self, task: Task, item: Item) -> str:
        """What the model sees, as text."""
        if task.kind == "generation":
            return item.context if self.opened.chat_template is None else self.tokenizer.decode(self._ids(item))
        return "\n".join(context + item.delimiter for context in item.contexts or [item.context])

    def _ids(self, item: Item) -> list[int]:
        if self.opened.chat_template is None:
            return self.tokenizer.encode(item.context)
        return encode_prompt(self.tokenizer, item.as_chat(), self.opened.chat_template)

    def _choose(self, task: Task, items: Sequence[Numbered]) -> Answered:
        for start in range(0, len(items), _ENCODED):
            some = items[start : start + _ENCODED]
            asked = []
            for (number, item), encoded in zip(
                some, encode_items(self.tokenizer, [item for _, item in some]), strict=True
            ):
                if encoded.num_positions > self.context and not item.context and len(item.choices) == 1:
                    yield [(number, self._read_long(task, number, item))]
                else:
                    asked.append((number, item, encoded.fitted(self.context, task, number)))
            yield from self._score(task, asked)

    def _score(self, task: Task, asked: Sequence[tuple[int, Item, EncodedItem]]) -> Answered:
        """The longest first, many in one pass; the seconds of a pass are shared by what is in it."""
        owners = [(i, branch) for i, (_, _, encoded) in enumerate(asked) for branch in range(len(encoded.branches))]
        found: list[dict[int, list[Scored]]] = [{} for _ in asked]
        seconds, then = [0.0] * len(asked), time.perf_counter()
        for scored_pass in log_likelihoods(self.opened.model, [asked[i][2].branches[branch] for i, branch in owners]):
            took, then = (time.perf_counter() - then) / len(scored_pass), time.perf_counter()
            done = []
            for place, scored in scored_pass:
                i, branch = owners[place]
                found[i][branch] = scored
                seconds[i] += took
                number, item, encoded = asked[i]
                if len(found[i]) == len(encoded.branches):
                    done.append((number, _choice_answer(task, number, item, encoded, found[i], seconds[i])))
            yield done

    def _read_long(self, task: Task, number: int, item: Item) -> Answer:
        """Of a text longer than the context: it is read in windows that overlap by half."""
        then, text = time.perf_counter(), item.choices[0]
        (bits,) = document_bits(self.opened.model, self.tokenizer, [text], self.context, title=f"{task.name} {number}")
        tokens = len(self.tokenizer.encode(text))
        choices = [Choice(text, -bits * math.log(2), tokens, len(text.encode()))]
        metrics = choice_metrics(task, item, choices, False)
        return _answer(task, number, item, text, metrics, choices, time.perf_counter() - then, tokens, 0)

    def _generate(self, task: Task, items: Sequence[Numbered]) -> Answered:
        if self._engine is None:
            self._engine = self.opened.engine()
        engine, waiting, running = self._engine, deque(items), dict[int, _Asked]()
        max_tokens = min(task.max_tokens, engine.max_context // 2)  # the prompt has the rest
        special = {
            self.tokenizer.special.get(mark) for mark in (OPEN, CLOSE)
        }  # else they would be left out of the text
        printed = tuple(token for token in self.tokenizer.skipped if token in special)
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0, stop=task.stop, printed_ids=printed)
        while waiting or running:
            while waiting and len(running) < _AHEAD:
                number, item = waiting.popleft()
                ids = self._ids(item)
                kept = ids[max(0, len(ids) - (engine.max_context - max_tokens)) :]
                end = self.tokenizer.decode(ids[-8:])
                asked = _Asked(number, item, end, len(kept), len(kept) < len(ids), time.perf_counter())
                running[engine.add(kept, params)] = asked
            completions = [output.completion for output in map(checked, engine.step())]
            done = [(running.pop(each.id), each) for each in completions if each is not None]
            if done:
                yield [(asked.number, _reply(task, asked, each.text, len(each.token_ids))) for asked, each in done]


class _Asked(NamedTuple):
    number: int
    item: Item
    prompt_end: str
    tokens_in: int
    is_truncated: bool
    since: float


def _reply(task: Task, asked: _Asked, text: str, tokens_out: int) -> Answer:
    judged = task.score(asked.item, without_thinking(text, asked.prompt_end))
    metrics = judged.metrics | ({TRUNCATED: 1.0} if asked.is_truncated else {})
    seconds = time.perf_counter() - asked.since
    answer = _answer(task, asked.number, asked.item, text, metrics, [], seconds, asked.tokens_in, tokens_out)
    return answer._replace(why=judged.why)


def _choice_answer(
    task: Task, number: int, item: Item, encoded: EncodedItem, found: dict[int, list[Scored]], seconds: float
) -> Answer:
    scored = [each for branch in range(len(encoded.branches)) for each in found[branch]]
    tokens = [len(ids) for branch in encoded.branches for ids in branch.continuations]
    choices = [
        Choice(text, one.log_likelihood, count, len(text.encode("utf-8", "backslashreplace")))
        for text, one, count in zip(item.choices, scored, tokens, strict=True)
    ]
    metrics = choice_metrics(task, item, choices, scored[0].is_greedy)
    if encoded.left_out:
        metrics[TRUNCATED] = 1.0
    best = max(range(len(choices)), key=lambda i: choices[i].log_likelihood)
    said = item.contexts[best] if item.contexts else item.choices[best]
    num_tokens = sum(branch.num_tokens for branch in encoded.branches)
    return _answer(task, number, item, said, metrics, choices, seconds, num_tokens, 0)


def _answer(
    task: Task, number: int, item: Item, output: str, metrics: dict[str, float], choices: list[Choice], seconds: float,
    tokens_in: int, tokens_out: int,
) -> Answer:  # fmt: skip
    """Without the prompt, which `Runner.answer` knows."""
    return Answer(
        task.name, item_hash(item.document), number, item.cluster, "", "", item.gold_text, output, metrics, choices,
        seconds, tokens_in, tokens_out,
    )  # fmt: skip
