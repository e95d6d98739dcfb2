"""A judge is heard in both orders, and its last word counts."""

import asyncio

import pytest

from inhouse.arena.battle.plan import Prompt
from inhouse.arena.battle.voters import Verdict, judge, read_verdict


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("[[A]]", "B it is. [[B]]"), Verdict("left", ("left", "left"))),
        (("[[B]]", "[[A]]"), Verdict("right", ("right", "right"))),
        (("[[A]]", "[[A]]"), Verdict("tie", ("left", "right"))),  # whatever is shown first
        (("[[C]]", "[[C]]"), Verdict("tie", ("tie", "tie"))),
        (("I cannot say.", "[[A]]"), None),
    ],
)
def test_a_judge_is_asked_in_both_orders(said: tuple[str, str], expected: Verdict | None) -> None:
    asked = []

    async def ask(question: str) -> str:
        asked.append(question)
        return said[question.index("<answer_a>\nfour") < 0 if "<answer_a>\nfour" in question else 1]

    found = asyncio.run(judge(ask)(Prompt("2 + {2}?", None, None), "four", "five"))
    assert found == expected and len(asked) == 2
    assert all("2 + {2}?" in question for question in asked)


def test_the_last_verdict_counts() -> None:
    assert read_verdict("Not [[A]], but [[B]].") == "B" and read_verdict("[[D]]") is None
