"""Whole comparisons: numbers, verdicts, what is said beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.compare.other_programs import (
    answer,
    inspect_header,
    sample,
    scored,
    write_inspect,
    write_lm_eval,
    write_ours,
)

from inhouse.evaluate.compare.comparison import Comparison, compare, compare_results
from inhouse.evaluate.compare.sides import Sides
from inhouse.evaluate.compare.statistics import exact_p
from inhouse.evaluate.results import Answer, Results, text_hash


def compared(a: Sequence[Answer], b: Sequence[Answer], **options: Any) -> Comparison:
    return compare_results(
        Sides(*(Results({"kind": "folder", "model": "m"}, list(side)) for side in (a, b))), **options
    )


def answers(scores: Sequence[float], metric: str = "accuracy", **fields: Any) -> list[Answer]:
    return [answer(number, {metric: score}, **fields) for number, score in enumerate(scores)]


def test_two_runs_of_lm_eval(tmp_path: Path) -> None:
    scores = [1] * 10 + [0] * 10, [0] * 9 + [1] + [0] * 10
    folders = [write_lm_eval(tmp_path / name, {"t": scored(each)}) for name, each in zip("ab", scores, strict=True)]
    (row,) = compare(*map(str, folders)).tasks
    assert (row.n, row.clusters, row.a, row.b, row.difference) == (20, 20, 0.5, 0.05, pytest.approx(0.45))
    assert (row.a_higher, row.b_higher, row.p_exact) == (9, 0, pytest.approx(2 / 2**9))
    assert row.low is not None and row.high is not None
    assert 0 < row.low < 0.45 < row.high < 1
    assert row.verdict == "A is better"


def test_two_logs_of_inspect(tmp_path: Path) -> None:
    logs = [
        write_inspect(tmp_path / f"{name}.eval", [sample(n, "C" if n % step else "I") for n in range(1, 41)])
        for name, step in (("a", 2), ("b", 4))
    ]
    result = compare(*map(str, logs))
    (row,) = result.tasks
    assert (row.metric, row.a, row.b, row.b_higher) == ("match", 0.5, 0.75, 10)
    assert row.verdict == "B is better"
    assert result.verdict == "B is better on letters."


def test_ours_and_lm_evals(tmp_path: Path) -> None:
    ours = write_ours(tmp_path / "ours", answers([1, 0, 1, 0, 1, 1, 1, 0]))
    theirs = write_lm_eval(tmp_path / "theirs", {"letters": scored([0] * 8, "acc")})
    (row,) = compare(str(ours), str(theirs)).tasks
    assert (row.metric, row.n, row.a, row.b) == ("accuracy", 8, 0.625, 0.0)


def test_a_space_before_the_choices_makes_no_other_prompt_in_another_program(tmp_path: Path) -> None:
    spaced = [
        each._replace(prompt=f"{each.prompt} ", prompt_hash=text_hash(f"{each.prompt} "))
        for each in answers([1, 0] * 4)
    ]
    theirs = write_lm_eval(tmp_path / "theirs", {"letters": scored([0] * 8, "acc")})
    (row,) = compare(str(write_ours(tmp_path / "ours", spaced)), str(theirs)).tasks
    assert row.n == 8
    with pytest.raises(ValueError, match="prompt_hash differs in 8 of 8"):
        compared(spaced, answers([1, 0] * 4))


@pytest.mark.parametrize(
    ("metric", "better"), [("answer_match", "A"), ("wer", "B"), ("unparsable", "B"), ("flawless", "A")]
)
def test_which_way_is_better_is_told_by_the_words_of_a_metric(metric: str, better: str) -> None:
    sides = [[answer(number, {metric: score}) for number in range(20)] for score in (1.0, 0.0)]
    assert compared(*sides).tasks[0].verdict == f"{better} is better"


def test_clusters_make_flips_of_one_passage_one_piece_of_evidence() -> None:
    alone = compared(answers([1] * 20 + [0] * 20), answers([0] * 40)).tasks[0]
    shared = [
        [each._replace(cluster=f"p{each.number // 10}") for each in answers(s)] for s in ([1] * 20 + [0] * 20, [0] * 40)
    ]
    together = compared(*shared).tasks[0]
    assert (alone.verdict, together.verdict) == ("A is better", "not resolved")
    assert (together.clusters, together.p_exact, together.low) == (4, 0.5, None)


def test_bits_per_byte_are_a_ratio_and_fewer_are_better() -> None:
    def bits(factor: float) -> list[Answer]:
        return [answer(n, {"bits": factor * (10 + n), "bytes": 10.0 + n % 3}) for n in range(30)]

    (row,) = compared(bits(1.0), bits(1.2)).tasks
    assert row.metric == "bits_per_byte"
    assert row.a == pytest.approx(sum(10 + n for n in range(30)) / sum(10 + n % 3 for n in range(30)))
    assert row.b == pytest.approx(1.2 * row.a)
    assert (row.verdict, row.p_exact) == ("A is better", None)


def test_holm_counts_the_tasks() -> None:
    a = [*answers([1] * 6 + [0] * 30), *(x for t in range(9) for x in answers([1, 0] * 10, task=f"other {t}"))]
    b = [*answers([0] * 36), *(x for t in range(9) for x in answers([0, 1] * 10, task=f"other {t}"))]
    row = compared(a, b).tasks[0]
    assert row.p < 0.05 < row.p_holm
    assert row.verdict == "not resolved"


def test_a_task_whose_checkpoints_vary_as_much_decides_nothing() -> None:
    a, b = answers([1] * 20 + [0] * 20), answers([0] * 40)
    noisy = [Results({}, answers([1] * right + [0] * (40 - right))) for right in (5, 15, 30)]
    steady = [Results({}, answers([1] * right + [0] * (40 - right))) for right in (19, 20, 21)]
    (row,) = compared(a, b, checkpoints=noisy).tasks
    assert row.signal is not None and row.signal < 3
    assert row.verdict.startswith("no decision: 1.6 times the noise")
    assert compared(a, b, checkpoints=steady).tasks[0].verdict == "A is better"
    with pytest.raises(ValueError, match="letters: checkpoint 1 has 5 of the 40 items compared"):
        compared(a, b, checkpoints=[Results({}, answers([1] * 5))] * 3)


def test_two_checkpoints_are_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="--checkpoint: 2 say nothing of noise; give 3 or more"):
        compare("nowhere", "nowhere", checkpoints=["x", "y"])


def test_the_same_answers_decide_nothing() -> None:
    result = compared(answers([1, 0, 1]), answers([1, 0, 1]))
    (row,) = result.tasks
    assert (row.verdict, row.p, row.low, row.visible) == ("no item differs", 1.0, None, None)
    assert result.verdict == "Nothing is resolved."


def test_one_item_is_compared_without_an_error() -> None:
    (row,) = compared(answers([1]), answers([0])).tasks
    assert (row.n, row.difference, row.a_error, row.low, row.verdict) == (1, 1.0, None, None, "not resolved")


def test_what_is_not_compared_is_told(tmp_path: Path) -> None:
    header = inspect_header() | {"status": "error"}
    failed = sample(3, "C", scores=None)
    a = write_inspect(tmp_path / "a.eval", [sample(n, "C") for n in (1, 2)] + [failed, sample(4, "C")], header)
    b = write_inspect(tmp_path / "b.eval", [sample(n, "I") for n in (1, 2, 3)])
    assert compare(str(a), str(b)).notes == [
        "A: a.eval ended with status error: it holds what was done until then",
        "letters: 1 of A's answers have no partner",
        "letters: 1 pairs lack a score",
    ]


def test_metrics_that_one_side_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="letters: no metric in common; A has accuracy; B has match"):
        compared(answers([1]), answers([1], "match"))
    with pytest.raises(ValueError, match="letters: none of its 2 pairs has the score accuracy on both sides"):
        compared([answer(0, {"accuracy": 1.0}), answer(1, {})], [answer(0, {}), answer(1, {"accuracy": 1.0})])
    with pytest.raises(ValueError, match="letters: no metric f1; A has accuracy"):
        compared(answers([1]), answers([1]), metric="f1")
    with pytest.raises(ValueError, match="letters: no metric in common; A has none"):
        compared([answer(0, {})], answers([1]))


def test_the_metric_asked_for_is_taken() -> None:
    a = [answer(n, {"accuracy": 1.0, "f1": 0.25}) for n in range(8)]
    assert compared(a, a, metric="f1").tasks[0].a == 0.25
    assert compared(a, a).tasks[0].metric == "accuracy"


def test_the_exact_test_is_over_clusters() -> None:
    a, b = answers([1, 1, 1, 0, 1, 0, 1, 1]), answers([0, 0, 1, 1, 0, 0, 0, 0])
    both = [[each._replace(cluster=str(each.number // 2)) for each in side] for side in (a, b)]
    assert compared(*both).tasks[0].p_exact == exact_p([2, -1, 1, 2])
