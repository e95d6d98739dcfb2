"""Scores as text: bits per byte as numbers, everything else in percent, each with its error and count."""

from pathlib import Path

from tests.fabricated_run import SCORES, fabricate

from inhouse.report.scores import bits_lost, read_scores, score_lines, score_rows


def test_bits_per_byte_are_numbers_and_all_else_is_percent() -> None:
    rows = {row.name: row[1:] for row in score_rows(SCORES)}
    assert rows["base/bits_per_byte"] == ("1.2345", "0.0214", "1,234", "whole documents")
    assert rows["model/exact_match/rhymes"] == ("75.0 %", "3.1 %", "200", "greedy")
    assert rows["model/exact_match/addition"] == ("50.0 %", "", "100", "greedy")


def test_lines_are_aligned_and_say_the_error_where_there_is_one() -> None:
    assert score_lines(SCORES) == [
        "base/bits_per_byte            1.2345 ± 0.0214   of   1,234  whole documents",
        "model/exact_match/rhymes      75.0 % ± 3.1 %    of     200  greedy",
        "model/exact_match/addition    50.0 %            of     100  greedy",
        "model/ends_by_itself          99.4 % ± 0.3 %    of     700  within the limit",
    ]
    assert score_lines({}) == []


def test_a_run_that_was_not_evaluated_has_no_scores(tmp_path: Path) -> None:
    assert read_scores(fabricate(tmp_path / "mine")) == SCORES
    assert read_scores(fabricate(tmp_path / "begun", until="sft")) == {}


def test_what_fine_tuning_costs_is_the_difference_where_both_were_measured() -> None:
    assert bits_lost({}) is bits_lost(SCORES) is None
    tuned = SCORES["base/bits_per_byte"] | {"value": 1.25}
    assert bits_lost({"model/bits_per_byte": tuned}) is None
    assert round(bits_lost(SCORES | {"model/bits_per_byte": tuned}) or 0, 4) == 0.0155


def test_what_rounds_to_nothing_has_no_sign() -> None:
    (row,) = score_rows({"core/arc/centred": {"value": -0.0004, "standard_error": 0.02, "count": 9, "how": ""}})
    assert row.value == "0.0 %"
