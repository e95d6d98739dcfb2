"""Results on the disk: what is read is what was written, an interrupted evaluation goes on, nothing is half there."""

import hashlib
import json
from pathlib import Path

import pytest

from inhouse.evaluate import results
from inhouse.evaluate.results import (
    ABOUT,
    PARTIALS,
    Answer,
    Choice,
    ResultsWriter,
    item_hash,
    read_results,
    read_scores,
)
from inhouse.evaluate.score import Score

OF = {
    "model": "m",
    "kind": "folder",
    "digest": "sha256:1",
    "settings": {"dtype": "fp32"},
    "inhouse": "0.1.0",
    "date": "today",
}


def answer(number: int, task: str = "tasks") -> Answer:
    choices = [Choice("a", -1.5, 1, 1), Choice("ä\n", -2.0, 2, 3)]
    item = item_hash({"number": number})
    return Answer(task, item, number, None, "p\u2028", f"{number}", "a", "a", {"accuracy": 1.0}, choices, 0.5, 3, 3)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    scores = {"tasks/accuracy": Score(1.0, None, 1, "how", 1)}
    with ResultsWriter(tmp_path, OF) as writer:
        writer.add([answer(0)])
        writer.finish([answer(0)], scores)
    assert read_results(tmp_path) == (OF, [answer(0)])
    assert read_scores(tmp_path) == scores
    assert not list(tmp_path.glob(PARTIALS))


def test_answers_outlive_an_interruption_and_a_line_that_was_being_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ResultsWriter(tmp_path, OF) as writer:
        writer.add([answer(0), answer(1)])
        raise KeyboardInterrupt
    (partial,) = tmp_path.glob(PARTIALS)
    with partial.open("a") as file:
        file.write('{"task": "ta')
    with pytest.raises(ValueError, match="was begun here: run it again"):
        read_results(tmp_path)
    with ResultsWriter(tmp_path, OF) as writer:
        assert list(writer.known.values()) == [answer(0), answer(1)]
    with ResultsWriter(tmp_path, OF) as writer:  # interrupted again, before anything was added
        assert len(writer.known) == 2


def test_finished_answers_are_not_asked_again_but_those_of_another_model_are(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path, OF | {"date": "2026-11-29"}) as writer:
        writer.finish([answer(0)], {})
    with ResultsWriter(tmp_path, OF | {"date": "2026-11-30"}) as writer:
        assert list(writer.known.values()) == [answer(0)]
    with ResultsWriter(tmp_path, OF | {"digest": "sha256:2"}) as writer:
        assert not writer.known
    assert read_results(tmp_path).answers == [answer(0)]  # the old ones stand until new ones are whole


def test_what_a_later_evaluation_does_not_ask_for_is_kept(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path, OF) as writer:
        writer.finish([answer(0), answer(1), answer(2)], {})
    with ResultsWriter(tmp_path, OF) as writer:  # --limit 1
        writer.finish([answer(0)], {})
    with ResultsWriter(tmp_path, OF) as writer:
        assert list(writer.known.values()) == [answer(0), answer(1), answer(2)]


def test_another_model_in_the_folder_costs_an_interrupted_one_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ResultsWriter(tmp_path, OF) as writer:
        writer.add([answer(0)])
        raise KeyboardInterrupt
    with ResultsWriter(tmp_path, OF | {"settings": {"dtype": "bf16"}}) as writer:
        assert not writer.known
        writer.add([answer(1)])
        writer.finish([answer(1)], {})
    with ResultsWriter(tmp_path, OF) as writer:
        assert list(writer.known.values()) == [answer(0)]


def test_an_item_that_stands_twice_has_two_answers(tmp_path: Path) -> None:
    twice = [answer(0), answer(0)._replace(number=1, output="b")]
    with ResultsWriter(tmp_path, OF) as writer:
        writer.add(twice)
    with ResultsWriter(tmp_path, OF) as writer:
        assert list(writer.known.values()) == twice
        writer.finish(twice, {})
    assert not list(tmp_path.glob(PARTIALS))


def test_a_date_is_that_of_the_answers(tmp_path: Path) -> None:
    for date, given, said in (("1", [answer(0)], "1"), ("2", [answer(0)], "1"), ("3", [answer(1)], "3")):
        with ResultsWriter(tmp_path, OF | {"date": date}) as writer:
            writer.finish(given, {})
        assert read_results(tmp_path).about["date"] == said


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"task": "ta', "line 2: not an answer"),  # cut, and no end of the line
        (json.dumps(answer(1)._asdict() | {"choices": [], "metrics": {"accuracy": float("nan")}}), "not finite"),
        (json.dumps(answer(1)._asdict() | {"choices": [], "metrics": {"accuracy": "1"}}), "not an answer"),
        (json.dumps(answer(1)._asdict() | {"choices": [], "number": "1"}), "whole number"),
        ("[" * 100_000, "not an answer"),
    ],
)
def test_an_answer_that_is_none_is_refused_with_its_place(line: str, sentence: str, tmp_path: Path) -> None:
    with ResultsWriter(tmp_path, OF) as writer:
        writer.finish([answer(0)], {})
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=sentence):
        read_results(tmp_path)


def test_what_is_no_result_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results of `inhouse eval --suite` here"):
        read_results(tmp_path)
    (tmp_path / ABOUT).write_text("{}")
    (tmp_path / "answers.jsonl").write_text('{"task": "a"}\n')
    with pytest.raises(ValueError, match=r"answers\.jsonl, line 1: not an answer"):
        read_results(tmp_path)


def test_an_item_is_its_document_whatever_the_order_of_keys() -> None:
    assert item_hash({"a": 1, "b": "ä"}) == item_hash({"b": "ä", "a": 1}) != item_hash({"a": 1, "b": "a"})
    canonical = '{"a":1,"b":"ä"}'.encode()
    assert item_hash({"b": "ä", "a": 1}) == hashlib.sha256(canonical).hexdigest()


def test_a_folder_that_looks_whole_has_its_exports_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*of: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "write_exports", killed)
    with pytest.raises(KeyboardInterrupt), ResultsWriter(tmp_path, OF) as writer:
        writer.add([answer(0)])
        writer.finish([answer(0)], {})
    assert not (tmp_path / ABOUT).exists()
    monkeypatch.undo()
    with ResultsWriter(tmp_path, OF) as writer:
        assert list(writer.known.values()) == [answer(0)]
        writer.finish([answer(0)], {})
    assert {path.suffix for path in tmp_path.iterdir() if path.stem == "scores"} == {".json", ".jsonl", ".csv"}
