"""Files of rows as problems and as environments; published files where they are."""

import gzip
import json
from pathlib import Path

import pytest
from tests.eval_data import eval_file

from inhouse.environments.verifiers.bbh import BBH
from inhouse.environments.verifiers.gsm8k import GSM8K
from inhouse.environments.verifiers.ifeval import IFEVAL
from inhouse.environments.verifiers.questions import QUESTIONS
from inhouse.environments.verifiers.verifier import file_environment, problems_of, read_rows


def rows_file(path: Path, count: int = 40) -> Path:
    rows = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1\n#### {n + 1}"} for n in range(count)]
    text = "\n".join(map(json.dumps, rows)) + "\n\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_of_a_file_in_their_order(tmp_path, name):
    problems = problems_of(GSM8K, rows_file(tmp_path / name))
    assert [problem.answer for problem in problems] == [str(n + 1) for n in range(40)]


def test_examples_of_one_object(tmp_path):
    path = tmp_path / "task.json"
    path.write_text('{"canary": "x", "examples": [{"input": "?", "target": "Yes"}]}')
    assert read_rows(path) == [{"input": "?", "target": "Yes"}]
    path.write_text("[]")
    with pytest.raises(ValueError, match="not a JSON object with a list of examples"):
        read_rows(path)


def test_a_line_ends_with_its_new_line_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a\u2028b\x85c", "answer": "#### 1"}\n', encoding="utf-8")
    assert [problem.prompt for problem in problems_of(GSM8K, path)] == ["a\u2028b\x85c"]


def test_what_is_no_row_is_named_with_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "?", "answer": "#### 1"}\n{"question": "?"}\n')
    with pytest.raises(ValueError, match="row 2: no 'answer', which gsm8k needs"):
        problems_of(GSM8K, path)
    path.write_text('{"question": "?", "answer": "1"}\n')
    with pytest.raises(ValueError, match="row 1: the answer does not end with"):
        problems_of(GSM8K, path)
    path.write_text("{}\n[]\n")
    with pytest.raises(ValueError, match="line 2: not a JSON object"):
        read_rows(path)


def test_an_environment_of_a_file_shares_no_problem_between_its_splits(tmp_path):
    environment = file_environment(GSM8K, rows_file(tmp_path / "rows.jsonl"))
    trained, heldout = (list(environment.draw(split, 100, 0, None)) for split in ("train", "heldout"))
    assert len(trained) == 100
    assert 0 < len(heldout) < 20
    assert len({*trained, *heldout}) == 40
    assert not {*trained} & {*heldout}
    assert trained == list(environment.draw("train", 100, 0, None)) != list(environment.draw("train", 100, 1, None))
    assert trained[:7] == list(environment.draw("train", 7, 0, None))
    assert all(environment.score(each, each.worked).score == 1 for each in trained)
    assert list(file_environment(GSM8K, rows_file(tmp_path / "none.jsonl", 0)).draw("train", 9, 0, None)) == []


@pytest.mark.parametrize(
    ("verifier", "name", "count"),
    [
        (GSM8K, "gsm8k/test.jsonl.gz", 1319),
        (BBH, "bbh/bbh/word_sorting.json.gz", 250),
        (IFEVAL, "ifeval/input_data.jsonl.gz", 541),
    ],
)
def test_published_files_give_their_own_answers_full_marks(verifier, name, count):
    problems = problems_of(verifier, eval_file(name))
    assert len(problems) == count
    assert all(verifier.score(each, each.worked).score == 1 for each in problems if each.worked)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.jsonl", b'{"question": 5, "answer": "x"}', "row 1: what is asked, or its worked reply, is no text"),
        ("a.jsonl", b'{"question": "?", "answer": "x", "worked": [1]}', "row 1: what is asked, or its worked reply"),
        ("a.jsonl", b'{"question": "\\ud800", "answer": "x"}', "row 1: .*surrogates"),
        ("a.jsonl", b'{"question": "\xff", "answer": "x"}', "not UTF-8 at byte 14"),
        ("a.jsonl.gz", b"no gzip", "not a whole .gz file"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], "not a whole .gz file"),
        ("a.json", b"[" * 100_000, "not a JSON object with a list of examples"),
        ("a.json", b'{"examples": [5]}', "row 1: no row of questions"),
    ],
)
def test_whatever_a_file_holds_is_a_sentence(name: str, data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{tmp_path / name}.*{sentence}"):
        problems_of(QUESTIONS, tmp_path / name)
