"""What answers are worth: unfinished and unparsable ones are wrong and counted, and nothing is asked twice."""

import random
import re
from types import SimpleNamespace

import pytest

from inhouse.engine.request import SamplingParams
from inhouse.environments.environment import Environment, Problem, generated, worked_problem
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.evaluate.harness import answer, heldout_questions, summarise
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.rows.encode import gather
from inhouse.posttrain.settings import SftSettings

SCORED = ("addition", "subtraction", "brackets", "strings")
UNSCORED = Environment("opinions", lambda split, count, seed, data: [Problem("Is it good?", "It is.")][:count])


class Oracle:
    """Stands for the engine: gives each prompt the reply that a table holds for it, a few in every step."""

    def __init__(self, tokenizer, replies: dict[str, tuple[str, str]]) -> None:
        self.replies = {
            tuple(encode_prompt(tokenizer, [{"role": "user", "content": prompt}])): reply
            for prompt, reply in replies.items()
        }
        self.waiting: list[SimpleNamespace] = []

    def add(self, prompt: list[int], params: SamplingParams) -> int:
        assert params.temperature == 0
        text, reason = self.replies[tuple(prompt)]
        identity = len(self.waiting)
        completion = SimpleNamespace(text=text, finish_reason=reason)
        self.waiting.append(SimpleNamespace(id=identity, completion=completion))
        return identity

    def step(self) -> list[SimpleNamespace]:
        unfinished = SimpleNamespace(id=0, completion=None)
        done, self.waiting = self.waiting[-3:], self.waiting[:-3]
        return [unfinished, *done]


def test_scores_of_right_wrong_unparsable_and_unfinished_answers(tokenizer, monkeypatch):
    monkeypatch.setitem(ENVIRONMENTS, "opinions", UNSCORED)
    questions = heldout_questions(EvaluateSettings(problems_per_kind=10, seed=0), (*SCORED, "opinions"), data=None)
    assert len({question.problem.prompt for question in questions}) == len(questions) == 41
    replies = {question.problem.prompt: (question.problem.worked, "stop") for question in questions}
    first, second, third = (question.problem.prompt for question in questions[:3])
    replies[first] = ("Answer: 1000", "stop")
    replies[second] = ("I do not know.", "stop")
    replies[third] = (replies[third][0], "length")  # right, but it would have gone on
    samples = answer(Oracle(tokenizer, replies), tokenizer, questions, max_tokens=50)
    scores = summarise(samples)
    assert set(scores) == {*(f"exact_match/{kind}" for kind in SCORED), "unparsable", "ends_by_itself"}
    assert scores["exact_match/addition"].value == 0.7
    assert scores["exact_match/strings"].value == 1.0
    assert (scores["unparsable"].value, scores["unparsable"].count) == (1 / 40, 40)
    assert (scores["ends_by_itself"].value, scores["ends_by_itself"].count) == (40 / 41, 41)
    assert samples[0].is_parsed and not samples[0].is_right
    assert samples[-1] == ("opinions", "Is it good?", None, "It is.", None, None, True)
    assert all(score.standard_error is not None and score.count and score.how for score in scores.values())


def test_no_answers_no_scores():
    assert summarise([]) == {}


def test_questions_are_of_the_environments_named_in_the_order_of_the_registry():
    settings = EvaluateSettings(problems_per_kind=2)
    questions = heldout_questions(settings, ["strings", "library", "brackets"], data=None)
    assert [question.environment.name for question in questions] == ["brackets"] * 2 + ["strings"] * 2
    assert heldout_questions(settings, [], data=None) == []


def _double(rng: random.Random) -> tuple[str, Problem]:
    number = rng.randint(0, 99)
    return str(number), worked_problem(f"Double {number}.", [], str(2 * number))


def test_a_new_environment_is_one_entry_of_the_registry(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match='no environment "doubling"'):
        SftSettings(generated={"doubling": 3})
    doubling = generated("doubling", _double)
    monkeypatch.setitem(ENVIRONMENTS, "doubling", doubling)
    replies = [each.messages[1]["content"] for each in gather(SftSettings(generated={"doubling": 3}), tmp_path, seed=0)]
    assert replies == [problem.worked for problem in doubling.draw("train", 3, 0, None)]
    settings = EvaluateSettings(environments=("doubling",), problems_per_kind=5)
    questions = heldout_questions(settings, settings.environments, data=None)
    assert [question.problem for question in questions] == list(doubling.draw("heldout", 5, 1, None))


def test_more_problems_than_there_are_is_said_and_ends(capsys, monkeypatch):
    few = generated("few", lambda rng: (number := str(rng.randrange(30)), worked_problem(f"{number}?", [], number)))
    monkeypatch.setitem(ENVIRONMENTS, "few", few)
    questions = heldout_questions(EvaluateSettings(problems_per_kind=10**9), ("few",), data=None)
    assert 0 < len(questions) < 30
    assert (
        capsys.readouterr().err == f"evaluate: few has only {len(questions)} of 1,000,000,000 held-out problems here\n"
    )


def test_what_tools_say_is_told_and_the_model_goes_on(tokenizer):
    """An engine that calls the calculator, and answers with what it was told."""

    class Calling(Oracle):
        def add(self, prompt: list[int], params: SamplingParams) -> int:
            text = tokenizer.decode(prompt)
            assert '"name": "calculator"' in text.split("<|im_end|>")[0]
            told = re.findall(r"tool\n(.*)\n", text.replace("<|im_end|>", "\n"))
            expression = re.search(r"(\d+ [+-] \d+|Add|Subtract|Compute).*", text)[0]
            call = f'<tool_call>{{"name": "calculator", "arguments": {{"expression": "{expression[:3]}"}}}}</tool_call>'
            self.replies[tuple(prompt)] = (f"Answer: {told[-1]}" if told else call, "stop")
            return super().add(prompt, params)

    questions = heldout_questions(EvaluateSettings(problems_per_kind=2), ["sums:1+calculator"], data=None)
    samples = answer(Calling(tokenizer, {}), tokenizer, questions, max_tokens=50)
    assert [sample.kind for sample in samples] == ["sums:1+calculator"] * 2
    assert all(sample.reply.startswith("Answer: ") and sample.is_parsed for sample in samples)


def test_problems_with_functions_are_taught_with_them(tmp_path):
    settings = SftSettings(generated={"function_calls:1": 2, "addition": 1, "sums:2": 1})
    taught = [each.messages for each in gather(settings, tmp_path, seed=0)]
    assert [len(messages) for messages in taught] == [2, 3, 3, 2]
    assert all(messages[-1]["tool_calls"] for messages in taught[1:3])
