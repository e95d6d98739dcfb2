"""Whose answer belongs to whose; what must not be compared."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.evaluate.compare.other_programs import answer

from inhouse.evaluate.compare.matching import match_tasks, unshared_tasks
from inhouse.evaluate.compare.sides import Sides
from inhouse.evaluate.results import Answer, Results
from inhouse.evaluate.suite.reused import asked_hash
from inhouse.evaluate.tasks.task import Item


def sides(a: Sequence[Answer], b: Sequence[Answer], *settings: dict[str, Any]) -> Sides:
    abouts = [{"kind": "lm-eval", "settings": {"letters": each}} for each in settings or ({}, {})]
    return Sides(Results(abouts[0], list(a)), Results(abouts[1], list(b)))


def right(number: int, score: float = 1.0, **fields: Any) -> Answer:
    return answer(number, {"accuracy": score}, **fields)


def test_items_meet_in_any_order_and_what_has_no_partner_is_counted() -> None:
    (matched,) = match_tasks(sides([right(n) for n in (0, 1, 2, 3)], [right(n) for n in (3, 2, 9)]))
    assert sorted(a.number for a, _ in matched.pairs) == [2, 3]
    assert all(a.item == b.item for a, b in matched.pairs)
    assert (matched.only_a, matched.only_b, matched.repeated) == (2, 1, 0)


def test_those_of_a_cluster_stand_together() -> None:
    both = [right(n, cluster=f"passage {n % 2}") for n in range(6)]
    (matched,) = match_tasks(sides(both, both))
    assert [a.cluster for a, _ in matched.pairs] == ["passage 0"] * 3 + ["passage 1"] * 3
    assert matched.starts() == [0, 3]


def test_an_item_that_the_data_hold_twice_is_two_pairs_of_one_cluster() -> None:
    twice = [right(0), right(1), right(5, item=right(0).item)]
    (matched,) = match_tasks(sides(twice, twice))
    assert len(matched.pairs) == 3
    assert len(matched.starts()) == 2
    assert all(a.number == b.number for a, b in matched.pairs)
    (matched,) = match_tasks(sides(twice, [right(1), right(5, item=right(0).item)]))
    assert sorted(a.number for a, _ in matched.pairs) == [1, 5]
    assert (matched.only_a, matched.only_b) == (1, 0)


def test_a_line_that_stands_twice_counts_once() -> None:
    (matched,) = match_tasks(sides([right(0), right(1), right(0)], [right(0), right(1)]))
    assert (len(matched.pairs), matched.repeated, matched.only_a) == (2, 1, 0)


def test_a_file_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="letters: item number 0 stands twice in B with different answers"):
        match_tasks(sides([right(0)], [right(0), right(0, 0.0)]))


def test_other_prompts_are_refused_with_what_made_them_so() -> None:
    a, b = [right(0), right(1)], [right(0), right(1, prompt="other", prompt_hash="1")]
    with pytest.raises(ValueError, match=r"letters: prompt_hash differs in 1 of 2 items: other prompts$"):
        match_tasks(sides(a, b))
    with pytest.raises(ValueError, match=r"other prompts; of its settings num_fewshot \(0 and 5\) differ"):
        match_tasks(sides(a, b, {"num_fewshot": 0}, {"num_fewshot": 5}))


def test_other_filters_are_refused() -> None:
    a, b = ([right(0, task=f"letters [{taken}]")] for taken in ("strict", "lenient"))
    with pytest.raises(ValueError, match=r"letters: filter differs \(A: strict; B: lenient\)"):
        match_tasks(sides(a, b))
    with pytest.raises(ValueError, match=r"letters: filter differs \(A: strict; B: none\)"):
        match_tasks(sides(a, [right(0)]))


def test_other_scorers_and_right_answers_are_refused() -> None:
    scorers = [{"scorers": [[name, {}]]} for name in ("match", "includes")]
    with pytest.raises(ValueError, match=r'letters: scorers \(\[\["match", {}\]\] and .* differ'):
        match_tasks(sides([right(0)], [right(0)], *scorers))
    with pytest.raises(ValueError, match="letters: target differs in 1 of 1 items"):
        match_tasks(sides([right(0)], [right(0, gold="z")]))


def test_of_ours_too_other_right_answers_are_refused() -> None:
    both = sides([right(0)], [right(0, gold="z")])
    for side, kind in zip(both, ("folder", "endpoint"), strict=True):
        side.about.update(kind=kind, settings={})
    with pytest.raises(ValueError, match="letters: target differs in 1 of 1 items"):
        match_tasks(both)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(ValueError, match="no task in common: A has letters; B has words"):
        match_tasks(sides([right(0)], [right(0, task="words")]))
    with pytest.raises(ValueError, match=r"letters: no item in common \(A has 1, B 1\)"):
        match_tasks(sides([right(0)], [right(1)]))
    with pytest.raises(ValueError, match="no task in common: A has none"):
        match_tasks(sides([], []))


def test_tasks_of_one_side_are_told() -> None:
    both = sides([right(0), right(0, task="a/b")], [right(0), right(0, task="a/c")])
    assert unshared_tasks(both) == (["a/b"], ["a/c"])
    assert [matched.task for matched in match_tasks(both)] == ["letters"]


def test_a_folder_and_an_endpoint_that_were_sent_the_same_messages_are_compared() -> None:
    messages = Item({}, "question")
    hashes = [asked_hash(messages, seen, is_chat=True) for seen in ("<|user|>question<|assistant|>", "question")]
    sides = [[right(0, prompt=hashed[:3], prompt_hash=hashed)] for hashed in hashes]
    kinds = [Results({"kind": kind}, answers) for kind, answers in zip(("folder", "endpoint"), sides, strict=True)]
    assert len(match_tasks(Sides(*kinds))[0].pairs) == 1
    system = replace(messages, messages=({"role": "system", "content": "Be brief."}, *messages.as_chat()))
    others = [right(0, prompt=hashes[0][:3], prompt_hash=asked_hash(system, "question", is_chat=True))]
    plain = [right(0, prompt=hashes[0][:3], prompt_hash=asked_hash(messages, "question", is_chat=False))]
    for answers in (others, plain):
        with pytest.raises(ValueError, match="prompt_hash differs in 1 of 1 items: other prompts"):
            match_tasks(Sides(kinds[0], Results({"kind": "endpoint"}, answers)))
