"""A decision in words, as JSON and as a header."""

import json

import pytest

from inhouse.gateway.routing.explain import as_json, from_json, header, lines
from inhouse.gateway.types import Candidate, Decision, Estimate, Target

A, B = Target("lab", "preview", "preview"), Target("acme", "big", "big-2026")
DECISION = Decision(
    "product/code", 0.93,
    (
        Candidate(A, Estimate(0.61, 0.55, 0.67, 64), 0, 1.25, 0.61, None),
        Candidate(B, None, 6_000_000, None, None, "acme may not serve task product/code"),
    ),
    (A,), "preview at lab is in-house", False,
)  # fmt: skip


def test_a_ledgers_decision_reads_back() -> None:
    assert from_json(json.loads(json.dumps(as_json(DECISION)))) == DECISION
    for wrong in ({}, {**as_json(DECISION), "candidates": [{}]}, {**as_json(DECISION), "order": 3}):
        with pytest.raises(ValueError, match="not a decision"):
            from_json(wrong)


def test_words_name_everybody_and_what_is_known_of_them() -> None:
    text = "\n".join(lines(DECISION, "USD"))
    for part in ("product/code", "0.93", "0.610 (0.550-0.670, 64)", "0.006000", "may not serve", "chosen: preview"):
        assert part in text
    declined = DECISION._replace(task="", has_declined=True)
    assert "task: unknown" in "\n".join(lines(declined, "USD"))
    assert "declined to choose" in "\n".join(lines(declined, "USD"))


def test_a_header_is_one_short_line_of_ascii() -> None:
    said = header(DECISION._replace(reason="naïve\r\nSet-Cookie: a=b " + "x" * 1000))
    assert said.isascii() and said.isprintable() and len(said) <= 400
    assert header(DECISION) == "product/code 0.93; preview at lab is in-house"
