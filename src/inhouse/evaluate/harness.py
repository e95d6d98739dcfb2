"""Questions that training never saw, answered greedily through the engine, and what the answers are worth."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

from inhouse.common.progress import Progress
from inhouse.data.documents import Document
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import Completion, SamplingParams
from inhouse.environments.library import sample_library_conversations
from inhouse.environments.problems import Kind, Problem, final_answer, problems, verify
from inhouse.evaluate.score import Score, share
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, Message, encode_prompt


class Question(NamedTuple):
    """A prompt of one turn. A library question has no `problem`: its answer is not scored, only whether it ends."""

    kind: str
    messages: list[Message]
    problem: Problem | None


class Sample(NamedTuple):
    """One answer: is it right (None: not scored), does it parse, did the model end it by itself?"""

    kind: str
    prompt: str
    expected: str | None
    reply: str
    is_right: bool | None
    is_parsed: bool | None
    is_ended: bool


def heldout_problems(per_kind: int, seed: int) -> list[Question]:
    """`per_kind` different held-out problems of every kind."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    return [
        Question(kind, [{"role": "user", "content": problem.prompt}], problem)
        for kind in kinds
        for problem in _distinct(problems(kind, "heldout", seed), per_kind)
    ]


def _distinct(stream: Iterable[Problem], count: int) -> list[Problem]:
    different: dict[str, Problem] = {}
    for problem in stream:
        if len(different) == count:
            break
        different.setdefault(problem.prompt, problem)
    return list(different.values())


def heldout_library_questions(documents: Iterable[Document], count: int, seed: int) -> list[Question]:
    """Up to `count` questions about the Python modules among held-out documents."""
    conversations = sample_library_conversations(documents, count, seed)
    return [Question("library", conversation[:1], None) for conversation in conversations]


def answer(
    engine: Engine,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    max_tokens: int,
    template: str = CHAT_TEMPLATE,
) -> list[Sample]:
    """Ask every question through the chat template; the most likely token each time."""
    prompts = [encode_prompt(tokenizer, question.messages, template=template) for question in questions]
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
    ids = [engine.add(prompt, params) for prompt in prompts]
    completions: dict[int, Completion] = {}
    with Progress("held-out questions", len(ids), "answers") as progress:
        while len(completions) < len(ids):
            done = {output.id: output.completion for output in engine.step() if output.completion is not None}
            completions |= done
            progress.update(len(done))
    return [
        _sample(question, completions[each].text, completions[each].finish_reason == "stop")
        for question, each in zip(questions, ids, strict=True)
    ]


def _sample(question: Question, reply: str, is_ended: bool) -> Sample:
    problem, prompt = question.problem, question.messages[-1]["content"]
    if problem is None:
        return Sample(question.kind, prompt, None, reply, None, None, is_ended)
    is_right = is_ended and verify(problem, reply)
    return Sample(question.kind, prompt, problem.answer, reply, is_right, final_answer(reply) is not None, is_ended)


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
