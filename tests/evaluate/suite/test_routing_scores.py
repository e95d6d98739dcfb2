"""The file that routing reads: what it says is what the answers say, and unknown is null."""

import json
from pathlib import Path

import pytest

from inhouse.evaluate.results import Answer, ResultsWriter
from inhouse.evaluate.score import Score
from inhouse.evaluate.suite.routing_scores import append_scores, interval, read_lines
from inhouse.evaluate.suite.summary import summarise

ABOUT = {"model": "m", "kind": "endpoint", "url": "http://a", "date": "2026-11-30T12:00:00+00:00", "suite": "s"}


def answer(task: str, number: int, metrics: dict[str, float], cost: float | None = 0.5) -> Answer:
    return Answer(task, f"{number}", number, None, "p", "h", None, "o", metrics, [], float(number), 10, 2, cost)


def test_a_line_a_task_and_lines_are_appended(tmp_path: Path) -> None:
    given = [answer("a", n, {"refused": 0.0, "score": n / 4, "exact": 0.0}) for n in range(5)]
    given += [answer("b", n, {"exact_match": 1.0}, None) for n in range(3)]
    given += [answer("c", n, {"bits": 8.0, "bytes": 2.0}) for n in range(3)]
    with ResultsWriter(tmp_path / "r", ABOUT) as writer:
        writer.finish(given, summarise(given))
    append_scores(tmp_path / "deep" / "scores.jsonl", tmp_path / "r")
    first, second = [json.loads(line) for line in (tmp_path / "deep" / "scores.jsonl").read_text().splitlines()]
    assert first["low"] < 0.5 < first["high"]
    assert {key: first[key] for key in first if key not in ("low", "high")} == {
        "task": "a", "model": "m", "metric": "score", "score": 0.5, "n": 5, "date": ABOUT["date"], "cost": 2.5,
        "tokens_in": 50, "tokens_out": 10, "seconds_median": 2.0,
    }  # fmt: skip
    assert (second["task"], second["metric"], second["score"], second["cost"]) == ("b", "exact_match", 1.0, None)


def test_a_command_given_again_appends_nothing_and_new_results_stand_on_a_line_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    for model, value in (("m", 1.0), ("m", 1.0), ("n", 1.0), ("m", 1.0), ("m", 0.5), ("m", 1.0)):
        given = [answer("a", 0, {"score": value})]
        with ResultsWriter(tmp_path / "r", ABOUT | {"model": model}) as writer:
            writer.finish(given, summarise(given))
        append_scores(file, tmp_path / "r")
        file.write_text(file.read_text().rstrip("\n"))  # as some editors leave it
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["model"], line["score"]) for line in lines] == [("m", 1), ("n", 1), ("m", 0.5), ("m", 1)]


def test_to_another_file_nothing_is_appended(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"task": "a", "model": "m"}\n')
    with pytest.raises(ValueError, match=r"answers\.jsonl, line 1: not a line of scores"):
        read_lines(file)


@pytest.mark.parametrize(
    ("score", "low", "high"),
    [
        (Score(1.0, 0.0, 60, ""), 0.9398, 1.0),  # statsmodels' proportion_confint(60, 60, method="wilson")
        (Score(0.0, None, 1, ""), 0.0, 0.7935),
        (Score(0.5, 0.05, 100, ""), 0.4038, 0.5962),
        (Score(0.5, 0.01, 100, ""), 0.4038, 0.5962),  # part of the credit makes it no narrower
        (Score(0.5, 0.1, 100, "", 10), 0.2366, 0.7634),  # ten passages
    ],
)
def test_the_interval_is_wilsons(score: Score, low: float, high: float) -> None:
    assert interval(score) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
