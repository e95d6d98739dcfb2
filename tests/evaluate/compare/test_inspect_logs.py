"""Inspect's logs as results."""

import zipfile
from pathlib import Path

import pytest
from tests.evaluate.compare.other_programs import inspect_header, sample, write_inspect, write_zip

from inhouse.evaluate.compare.inspect_logs import read_logs


@pytest.mark.parametrize(
    ("name", "compression"),
    [("x.json", 0), ("x.eval", zipfile.ZIP_DEFLATED), ("x.eval", zipfile.ZIP_STORED), ("x.eval", 93)],
)
def test_a_log_is_read(tmp_path: Path, name: str, compression: int) -> None:
    path = write_inspect(tmp_path / name, [sample(1, "C"), sample(2, "I")], compression=compression)
    about, answers = read_logs(path, None)
    assert (about["model"], about["notes"]) == ("mockllm/model", [])
    assert [answer.metrics for answer in answers] == [{"match": 1.0}, {"match": 0.0}]
    assert answers[0].prompt == "system: Answer.\n\nuser: question 1"
    assert (answers[0].task, answers[0].gold, answers[0].output) == ("letters", "y", "x")


def test_ids_of_messages_and_samples_do_not_tell_items_apart(tmp_path: Path) -> None:
    one = read_logs(write_inspect(tmp_path / "a.eval", [sample(1, "C", asked="same")]), None).answers[0]
    two = read_logs(write_inspect(tmp_path / "b.eval", [sample(7, "I", asked="same")]), None).answers[0]
    assert (one.item, one.prompt_hash) == (two.item, two.prompt_hash)


def test_epochs_are_averaged(tmp_path: Path) -> None:
    samples = [sample(number, value, epoch) for number in (1, 2) for epoch, value in ((1, "C"), (2, "I"), (3, "P"))]
    answers = read_logs(write_inspect(tmp_path / "a.eval", samples), None).answers
    assert [answer.metrics["match"] for answer in answers] == [0.5, 0.5]


def test_what_was_not_scored_has_no_score_and_leaves_those_epochs_that_were(tmp_path: Path) -> None:
    values = {1: ("C", float("nan"), "P"), 2: (float("nan"),) * 3}
    samples = [sample(n, value, epoch) for n, each in values.items() for epoch, value in enumerate(each, 1)]
    answers = read_logs(write_inspect(tmp_path / "a.eval", samples), None).answers
    assert [answer.metrics for answer in answers] == [{"match": 0.75}, {}]


def test_other_reducers_are_refused(tmp_path: Path) -> None:
    header = inspect_header(config={"epochs": 4, "epochs_reducer": ["pass_at_2"]})
    with pytest.raises(ValueError, match="epochs were reduced by pass_at_2; only mean is compared"):
        read_logs(write_inspect(tmp_path / "a.eval", [sample(1, "C")], header), None)


@pytest.mark.parametrize(
    ("value", "number"),
    [("C", 1), ("I", 0), ("P", 0.5), ("N", 0), (True, 1), (3, 3), ("0.25", 0.25), ("yes", 1), ("False", 0)],
)
def test_values_are_numbers_as_inspect_takes_them(tmp_path: Path, value: object, number: float) -> None:
    assert read_logs(write_inspect(tmp_path / "a.json", [sample(1, value)]), None).answers[0].metrics == {
        "match": number
    }


def test_scores_of_several_scorers_and_keys_have_their_names(tmp_path: Path) -> None:
    scores = {"match": {"value": "C"}, "style": {"value": {"short": 1, "kind": 0.5}}, "list": {"value": [1, 2]}}
    (answer,) = read_logs(write_inspect(tmp_path / "a.eval", [sample(1, "C", scores=scores)]), None).answers
    assert answer.metrics == {"match": 1, "style/short": 1, "style/kind": 0.5}


def test_a_sample_that_failed_has_no_score(tmp_path: Path) -> None:
    failed = sample(1, "C", scores=None, messages=[], output={"choices": []}, error={"message": "timeout"})
    (answer,) = read_logs(write_inspect(tmp_path / "a.eval", [failed]), None).answers
    assert answer.metrics == {}
    assert answer.prompt == "question 1"


def test_a_log_that_was_cut_short_says_so(tmp_path: Path) -> None:
    header = inspect_header() | {"status": "cancelled"}
    about, _ = read_logs(write_inspect(tmp_path / "a.eval", [sample(1, "C")], header), None)
    assert "ended with status cancelled" in about["notes"][0]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([sample(1, float("inf"))], r"sample 1: match is inf; only numbers can be compared"),
        ([sample(1, "perhaps")], r"sample 1: match is 'perhaps', which is no number and none of C, I, P, N"),
        ([{"id": 1, "epoch": 1}], r"sample 1: it has no id and input"),
        ([sample(1, "C"), sample(1, "C", epoch=2, asked="other")], "its epochs have different inputs"),
        ([sample(1, "C", messages=3)], r"sample 1: not a sample of Inspect's"),
        ([sample(1, "C", scores=[1])], r"sample 1: not a sample of Inspect's"),
    ],
)
def test_what_is_wrong_with_a_sample_is_said(tmp_path: Path, samples: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_logs(write_inspect(tmp_path / "a.eval", samples), None)


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.eval", {"x.json": b"{}"}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"a\.eval: no log of Inspect's: there is no header\.json in it"):
        read_logs(tmp_path / "a.eval", None)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ValueError, match=r"b\.json: no log of Inspect's: it has no eval\.task"):
        read_logs(tmp_path / "b.json", None)
    write_inspect(tmp_path / "c.eval", [sample(1, "C")])
    (tmp_path / "a.eval").unlink()
    (tmp_path / "d.eval").write_bytes((tmp_path / "c.eval").read_bytes())
    with pytest.raises(ValueError, match=r"both c\.eval and d\.eval are of letters; name one"):
        read_logs(tmp_path, None)
