"""lm-eval's samples as results."""

import json
from pathlib import Path

import pytest
from tests.evaluate.compare.other_programs import choice_row, lm_eval_row, scored, write_lm_eval

from inhouse.evaluate.compare.lm_eval import read_samples, sample_files
from inhouse.evaluate.results import item_hash


def test_a_folder_is_read(tmp_path: Path) -> None:
    rows = [lm_eval_row(n, {"exact_match": 1.0}, taken=taken) for n in range(2) for taken in ("strict", "lenient")]
    folder = write_lm_eval(tmp_path / "a", {"letters": rows, "north": [choice_row(0, [-3.0, -1.5], 1)]})
    about, answers = read_samples(folder, None, as_ours=False)
    assert about["model"] == "a"
    assert about["settings"]["letters"]["num_fewshot"] == 0
    assert [answer.task for answer in answers] == ["letters [strict]", "letters [lenient]"] * 2 + ["north"]
    assert answers[0].item == rows[0]["doc_hash"]
    assert (answers[0].prompt, answers[0].output, answers[0].gold) == ("Q: question 0\nA:", "x", "y")
    assert (answers[-1].output, answers[-1].gold) == (" east", " east")
    assert answers[-1].metrics == {"acc": 1.0}


def test_one_file_without_a_date_in_its_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, scored([1, 0]))))
    about, answers = read_samples(path, None, as_ours=False)
    assert {answer.task for answer in answers} == {"mine"}
    assert about["model"] == "mine.jsonl"


def test_items_and_metrics_are_called_as_ours_are(tmp_path: Path) -> None:
    folder = write_lm_eval(tmp_path / "a", {"letters": scored([1], "acc")})
    _, (answer,) = read_samples(folder, None, as_ours=True)
    assert answer.item == item_hash({"question": "question 0"})
    assert answer.metrics == {"accuracy": 1.0}


def test_items_share_a_passage(tmp_path: Path) -> None:
    docs = [{"question": f"q{n}", "passage": f"p{n // 2}", "group": n % 2} for n in range(4)]
    folder = write_lm_eval(tmp_path / "a", {"letters": [lm_eval_row(n, {"acc": 1.0}, docs[n]) for n in range(4)]})
    by_passage = [answer.cluster for answer in read_samples(folder, None, False).answers]
    assert by_passage[0] == by_passage[1] != by_passage[2] == by_passage[3]
    by_group = [answer.cluster for answer in read_samples(folder, "group", False).answers]
    assert by_group[0] == by_group[2] != by_group[1] == by_group[3]
    with pytest.raises(ValueError, match=r"line 1: its document has no book; it has group, passage, question"):
        read_samples(folder, "book", False)


def test_scores_of_older_versions_stand_beside_the_other_fields(tmp_path: Path) -> None:
    row = scored([1], "acc")[0]
    del row["metrics"], row["filter"]
    folder = write_lm_eval(tmp_path / "a", {"letters": [row | {"word_perplexity": [-3.0, 2]}]})
    _, (answer,) = read_samples(folder, None, False)
    assert (answer.task, answer.metrics) == ("letters", {"acc": 1.0})


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_named(tmp_path: Path, score: float) -> None:
    folder = write_lm_eval(tmp_path / "a", {"letters": scored([1, score])})
    with pytest.raises(ValueError, match=r"letters_.*jsonl, line 2: exact_match is (nan|inf); only numbers"):
        read_samples(folder, None, False)


def test_a_likelihood_of_minus_infinity_is_one(tmp_path: Path) -> None:
    folder = write_lm_eval(tmp_path / "a", {"north": [choice_row(0, [float("-inf"), -900.0], 1)]})
    assert read_samples(folder, None, False).answers[0].output == " east"


def test_what_is_no_sample_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl, line 1: no doc_hash; not a line of lm-eval's --log_samples"):
        read_samples(tmp_path / "x.jsonl", None, False)
    folder = write_lm_eval(tmp_path / "a", {"letters": [{**scored([1])[0], "arguments": 3, "doc_id": "x"}]})
    with pytest.raises(ValueError, match=r"line 1: doc_id is 'x', no whole number"):
        read_samples(folder, None, False)


def test_two_files_of_one_task_are_refused(tmp_path: Path) -> None:
    folder = write_lm_eval(tmp_path / "a", {"letters": scored([1])})
    (first,) = sample_files(folder)
    first.with_name("samples_letters_2026-12-01T10-00-00.000001.jsonl").write_text(first.read_text())
    with pytest.raises(
        ValueError, match=r"both samples_letters_2026-11.* and samples_letters_2026-12.* are of letters"
    ):
        read_samples(folder, None, False)
