"""What log-likelihoods say of an item, and what answers say of a model."""

import math
from dataclasses import replace

import pytest

from inhouse.evaluate.results import Answer, Choice
from inhouse.evaluate.suite.summary import choice_metrics, summarise
from inhouse.evaluate.tasks.task import Item, Kind, Task


def task(kind: Kind = "multiple_choice", chance: float | None = None) -> Task:
    return Task("t", kind, list, chance=chance)


def answer(number: int, metrics: dict[str, float], cluster: str | None = None) -> Answer:
    return Answer("t", str(number), number, cluster, "", "", None, "", metrics, [], 0.0, 0, 0)


def test_three_ways_to_choose_and_the_bits_of_the_right_choice() -> None:
    item = Item({}, "c", ("abcd", "ef", "g"), gold=0)
    choices = [Choice("abcd", -4.0, 2, 4), Choice("ef", -3.0, 1, 2), Choice("g", -3.5, 3, 1)]
    metrics = choice_metrics(task(chance=0.25), item, choices, False)
    assert [metrics[f"accuracy{by}"] for by in ("", "_per_byte", "_per_token")] == [0.0, 1.0, 0.0]
    assert metrics["centred"] == pytest.approx(-1 / 3)
    by_byte = replace(task(chance=0.25), centred_metric="accuracy_per_byte")
    assert choice_metrics(by_byte, item, choices, False)["centred"] == 1.0
    assert (metrics["bits"], metrics["bytes"]) == (4 / math.log(2), 4.0)


def test_of_equals_the_first_is_chosen_but_in_a_minimal_pair_neither() -> None:
    item, equal = Item({}, "", ("a b", "b a"), gold=0), [Choice("a b", -1.0, 2, 3), Choice("b a", -1.0, 2, 3)]
    assert choice_metrics(task(), item, equal, False)["accuracy"] == 1.0
    assert choice_metrics(task("minimal_pairs"), item, equal, False)["accuracy"] == 0.0


def test_items_that_stand_in_a_file_twice_make_no_score_surer() -> None:
    once = [answer(n, {"accuracy": float(n % 2)}) for n in range(10)]
    twice = [*once, *(each._replace(number=each.number + 10) for each in once)]
    a, b = (summarise(answers)["t/accuracy"] for answers in (once, twice))
    assert (a.value, a.standard_error, a.clusters) == (b.value, pytest.approx(b.standard_error), None)
    assert (b.count, b.clusters) == (20, 10)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_log_likelihood_that_is_no_number_is_refused(value: float) -> None:
    choices = [Choice("a", -1.0, 1, 1), Choice("b", value, 1, 1)]
    with pytest.raises(ValueError, match="log-likelihood that is no number"):
        choice_metrics(task(), Item({}, "c", ("a", "b"), gold=0), choices, False)


def test_a_text_has_bits_and_behind_a_context_may_be_what_the_model_would_say() -> None:
    one = [Choice("ab", -2.0, 1, 2)]
    assert choice_metrics(task("log_likelihood"), Item({}, "", ("ab",)), one, True).keys() == {"bits", "bytes"}
    assert choice_metrics(task("log_likelihood"), Item({}, "c", ("ab",)), one, True)["greedy"] == 1.0
    core = replace(task("log_likelihood", chance=0.0), centred_metric="greedy")
    assert choice_metrics(core, Item({}, "c", ("ab",)), one, True)["centred"] == 1.0


def test_scores_have_their_error_and_count_over_clusters_where_items_share_some() -> None:
    alone = summarise([answer(n, {"accuracy": float(n % 2)}) for n in range(20)])["t/accuracy"]
    assert (alone.value, alone.count, alone.clusters) == (0.5, 20, None)
    assert alone.standard_error == pytest.approx((0.25 / 19) ** 0.5)
    twins = summarise([answer(n, {"accuracy": float(n // 2 % 2)}, str(n // 2)) for n in range(20)])["t/accuracy"]
    assert (twins.count, twins.clusters) == (20, 10)
    assert twins.standard_error == pytest.approx((0.25 / 9) ** 0.5)  # ten, said twice


def test_bits_per_byte_are_of_all_bytes() -> None:
    score = summarise([answer(0, {"bits": 2.0, "bytes": 1.0}), answer(1, {"bits": 2.0, "bytes": 3.0})])
    assert score["t/bits_per_byte"].value == 1.0
    assert set(score) == {"t/bits_per_byte"}


def test_clean_and_touched_items_stand_side_by_side_and_what_cannot_be_told_is_in_neither() -> None:
    metrics = [{"accuracy": 1.0, "touched": 1.0}, {"accuracy": 0.0, "touched": 0.0}, {"accuracy": 1.0}]
    scores = summarise([answer(n, own) for n, own in enumerate(metrics)])
    values = {name: (score.value, score.count) for name, score in scores.items()}
    assert values == {
        "t/accuracy": (2 / 3, 3), "t/accuracy_clean": (0.0, 1), "t/accuracy_touched": (1.0, 1), "t/touched": (0.5, 2),
    }  # fmt: skip


def test_items_that_did_not_fit_are_counted_of_all() -> None:
    scores = summarise([answer(0, {"accuracy": 1.0}), answer(1, {"accuracy": 1.0, "truncated": 1.0})])
    assert (scores["t/truncated"].value, scores["t/truncated"].count) == (0.5, 2)
