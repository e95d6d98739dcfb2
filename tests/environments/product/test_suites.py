"""What holds of every product suite: enough items, all different, the same everywhere; right is 1, nothing is 0."""

import json
import random
import re

import pytest

from inhouse.environments.product.registry import SUITES
from inhouse.environments.product.suite import LEVELS, Suite, documents, numbers_in, without_fence

DOCUMENTS = {name: documents(suite) for name, suite in SUITES.items()}
each_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


def scores(suite: Suite, reply) -> dict[int, float]:
    """Mean by level of the replies that `reply(document)` gives."""
    got: dict[int, list[float]] = {}
    for document in DOCUMENTS[suite.name][: 16 if suite.name == "programs" else None]:  # whose replies are run
        verdict = suite.check(document["expected"], reply(document))
        assert 0 <= verdict.score <= 1
        assert (verdict.why is None) == (verdict.score == 1), verdict
        assert verdict.is_parsed or verdict.score == 0
        got.setdefault(document["level"], []).append(verdict.score)
    return {level: sum(each) / len(each) for level, each in got.items()}


@each_suite
def test_there_are_sixty_and_more_on_every_level(suite: Suite) -> None:
    made = DOCUMENTS[suite.name]
    assert len(made) >= 60
    assert len({json.dumps(each["messages"]) for each in made}) == len(made)
    assert {each["level"] for each in made} == set(range(1, LEVELS + 1))
    assert json.loads(json.dumps(made)) == made
    assert documents(suite, 8) == made[:8]
    assert documents(suite, 8, seed=2) != made[:8]


@each_suite
def test_a_right_reply_is_worth_1_also_in_a_code_block_and_behind_thoughts(suite: Suite) -> None:
    assert set(scores(suite, lambda document: suite.solve(document["expected"])).values()) == {1.0}
    fenced = scores(suite, lambda document: f"<think>\n1 2 3?\n</think>\n\n{suite.solve(document['expected'])}")
    assert set(fenced.values()) == {1.0}


@each_suite
@pytest.mark.parametrize("lazy", ["", "I cannot help with that.", "{}", "[]", "0", "=", "Answer: 0", "```\n```"])
def test_a_lazy_reply_is_worth_next_to_nothing(suite: Suite, lazy: str) -> None:
    mean = scores(suite, lambda document: lazy)
    assert sum(mean.values()) / LEVELS < 0.05


@each_suite
def test_the_question_given_back_is_worth_next_to_nothing(suite: Suite) -> None:
    mean = scores(suite, lambda document: "\n".join(m["content"] for m in document["messages"]))
    assert sum(mean.values()) / LEVELS < 0.1


@each_suite
def test_the_answer_to_another_item_is_worth_little(suite: Suite) -> None:
    solved = [suite.solve(document["expected"]) for document in DOCUMENTS[suite.name]]
    mean = scores(suite, lambda document: solved[(document["number"] + LEVELS) % len(solved)])
    assert sum(mean.values()) / LEVELS < 0.25


@each_suite
def test_harder_levels_ask_for_more(suite: Suite) -> None:
    """What is asked and must be answered is more on the hardest level than on the easiest."""
    sizes: dict[int, list[int]] = {}
    for each in DOCUMENTS[suite.name]:
        asked = json.dumps(each["messages"])
        sizes.setdefault(each["level"], []).append(len(asked) + len(suite.solve(each["expected"])))
    means = {level: sum(each) / len(each) for level, each in sizes.items()}
    assert means[1] < means[LEVELS]


@pytest.mark.parametrize("suite", [each for each in SUITES.values() if each.name != "programs"], ids=lambda s: s.name)
def test_the_more_is_wrong_the_less_it_is_worth(suite: Suite) -> None:
    """Scores tell careful models from careless ones: here each number and name is wrong by chance."""

    def careless(share: float) -> float:
        rng = random.Random(0)
        spoilt = lambda match: "17" if rng.random() < share else match[0]  # noqa: E731
        mean = scores(suite, lambda document: re.sub(r"\d+|\b[A-Z][a-z]+\b", spoilt, suite.solve(document["expected"])))
        return sum(mean.values()) / LEVELS

    means = [careless(share) for share in (0.0, 0.1, 0.4, 1.0)]
    assert means == sorted(means, reverse=True)
    assert means[0] == 1
    assert 0.5 < means[1] < 0.97
    assert means[3] < 0.6  # names of tools and small words are right still


def test_numbers_are_found_as_people_write_them() -> None:
    assert numbers_in("12 of 1,234.5 (-7 %), €30, plan:584; v2 a3 4x 5.") == [12, 1234.5, 7, 30, 584, 4, 5]


def test_the_last_block_is_the_reply() -> None:
    assert without_fence("First\n```python\na\n```\nthen\n```\nb\n```\n") == "b\n"
    assert without_fence("<think>```x```</think> plain ") == "plain"
