"""`inhouse eval MODEL --suite`: results whole in their folder, and sentences for what cannot be."""

import copy
import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from inhouse.checkpoint.model_folder import save_model
from inhouse.cli.app import main
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.results import read_results, read_scores
from inhouse.evaluate.suite import evaluate as module
from inhouse.evaluate.suite.evaluate import evaluate_suite
from inhouse.evaluate.suite.overlap import Overlap
from inhouse.evaluate.suite.suite import open_suite
from inhouse.model.transformer import Transformer

ITEMS = [{"query": f"{n} + 1 =", "choices": ["a number", "none"], "gold": n % 2} for n in range(5)]


@pytest.fixture
def folder(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    path.mkdir()
    tokenizer.save(path)
    save_model(copy.deepcopy(model), path)
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["inhouse", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_every_answer_and_score_is_in_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "eval", folder, "--suite", "sums.jsonl") == 0
    out = tmp_path / "results" / "mine" / "sums"
    assert "sums/accuracy" in capsys.readouterr().out
    about, answers = read_results(out)
    assert (about["model"], about["kind"], about["suite"]) == ("mine", "folder", "sums")
    assert [answer.number for answer in answers] == list(range(5))
    scores = read_scores(out)
    assert scores["sums/accuracy"].count == 5
    with (out / "scores.csv").open(newline="") as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {name.partition("/")[2] for name in scores}
    before = {path.name: path.read_bytes() for path in out.glob("answers*")}
    assert call(monkeypatch, "eval", folder, "--suite", "sums.jsonl", "--output", out) == 0
    assert {path.name: path.read_bytes() for path in out.glob("answers*")} == before  # nothing was asked again


def test_touched_items_are_marked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [0.0, 0.5, None, 0.0, 1.0]
    monkeypatch.setattr(module, "training_shards", lambda path: [SimpleNamespace()])
    monkeypatch.setattr(module, "overlaps", lambda documents, trained: [Overlap(share) for share in shares])
    scores = evaluate_suite(folder, open_suite(str(tmp_path / "sums.jsonl")), tmp_path / "out", with_overlap=True)
    assert (scores["sums/accuracy_clean"].count, scores["sums/accuracy_touched"].count) == (2, 2)
    assert [answer.metrics.get("overlap") for answer in read_results(tmp_path / "out").answers] == shares


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--suite", "none.toml"), "there is no suite none.toml"),
        (("--suite", "bad.jsonl"), "gold = 7 is none of its 2 choices"),
        (("--suite", "sums.jsonl", "--task", "others"), "the suite has no task others; it has sums"),
        (("--suite", "sums.jsonl", "--overlap"), "no training shards in its lineage"),
        (("--suite", "sums.jsonl", "--dtype", "fp8"), "fp8"),
        (("--suite", "sums.jsonl", "--env", "addition"), "give one of the two"),
        (("--limit", "3"), "--limit belongs to a suite"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], sentence: str, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text(json.dumps(ITEMS[0] | {"gold": 7}))
    assert call(monkeypatch, "eval", folder, *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
