"""Questions that training never saw, answered greedily through the engine, and what the answers are worth."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from inhouse.common.progress import Progress
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import Completion, SamplingParams, checked
from inhouse.environments.environment import Environment, Problem
from inhouse.environments.registry import environments_of, label
from inhouse.environments.tools import asked, results
from inhouse.evaluate.score import Score, share
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_prompt

_MOST_TURNS = 5  # of a question with tools: the last is its answer


class Question(NamedTuple):
    """A held-out problem and the environment that it is from, which scores the reply, or does not."""

    environment: Environment
    problem: Problem


class Sample(NamedTuple):
    """One answer: is it right (None: not scored), does it parse, did the model end it by itself?"""

    kind: str  # the environment's name
    prompt: str
    expected: str | None
    reply: str
    is_right: bool | None
    is_parsed: bool | None
    is_ended: bool


def heldout_questions(settings: EvaluateSettings, names: Collection[str], data: Path | None) -> list[Question]:
    """The held-out problems of the environments `names`; `data` is the data stage's folder, where there is one."""
    questions = []
    for environment in environments_of(names):
        count = settings.problems_per_kind if environment.score else settings.unscored_per_kind
        drawn = [Question(environment, each) for each in environment.draw("heldout", count, settings.seed, data)]
        if len(drawn) < count:
            found = f"only {len(drawn):,} of {count:,}" if drawn else "no"
            print(f"evaluate: {environment.name} has {found} held-out problems here", file=sys.stderr)
        questions += drawn
    return questions


def answer(
    engine: Engine, tokenizer: Tokenizer, questions: Sequence[Question], max_tokens: int, template: str = CHAT_TEMPLATE
) -> list[Sample]:
    """Ask every question through the chat template; the most likely token each time. Where there are tools, their
    results are told to the model, which goes on."""
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
    chats = [asked(*question) for question in questions]
    samples: dict[int, Sample] = {}
    for turn in range(_MOST_TURNS):
        if not (places := [place for place in range(len(questions)) if place not in samples]):
            break
        prompts = [encode_prompt(tokenizer, chats[place], template=template) for place in places]
        for place, completion in zip(places, complete(engine, prompts, params), strict=True):
            is_ended = completion.finish_reason == "stop"
            told = results(questions[place].environment.tools, completion.text)
            if not (told and is_ended and turn + 1 < _MOST_TURNS):
                samples[place] = _sample(questions[place], completion.text, is_ended)
            chats[place] += [{"role": "assistant", "content": completion.text}, *told]
    return [samples[place] for place in range(len(questions))]


def complete(
    engine: Engine, prompts: Sequence[list[int]], params: SamplingParams, what: str = "held-out questions"
) -> list[Completion]:
    """What the model says after each prompt, in their order."""
    ids = [engine.add(prompt, params) for prompt in prompts]
    completions: dict[int, Completion] = {}
    with Progress(what, len(ids), "answers") as progress:
        while len(completions) < len(ids):
            outputs = map(checked, engine.step())
            done = {output.id: output.completion for output in outputs if output.completion is not None}
            completions |= done
            progress.update(len(done))
    return [completions[each] for each in ids]


def _sample(question: Question, reply: str, is_ended: bool) -> Sample:
    environment, problem = question
    verdict = environment.score(problem, reply) if environment.score else None
    is_right = None if verdict is None else is_ended and verdict.score == 1
    is_parsed = None if verdict is None else verdict.is_parsed
    return Sample(label(environment.name), problem.prompt, problem.answer, reply, is_right, is_parsed, is_ended)


def summarise(samples: Sequence[Sample]) -> dict[str, Score]:
    """Exact match of every kind (an unfinished or unparsable answer is wrong), what did not parse, what ended."""
    scores = {}
    for kind in dict.fromkeys(sample.kind for sample in samples if sample.is_right is not None):
        outcomes = [bool(sample.is_right) for sample in samples if sample.kind == kind]
        scores[f"exact_match/{kind}"] = share(outcomes, "held-out problems, greedy, final answer right to the letter")
    scored = [sample for sample in samples if sample.is_right is not None]
    if scored:
        unparsable = [not sample.is_parsed for sample in scored]
        scores["unparsable"] = share(unparsable, "answers to problems without a last line `Answer: …`; counted wrong")
    if samples:
        ended = [sample.is_ended for sample in samples]
        scores["ends_by_itself"] = share(ended, "answers to held-out prompts ended by the model within the token limit")
    return scores
