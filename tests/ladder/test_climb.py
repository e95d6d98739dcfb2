"""A whole ladder of the tiniest sizes: trained once, its text and its baseline shared, everything in the ledger."""

import gc
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.train.tiny_text import text

from inhouse.ladder import climb as climbing
from inhouse.ladder import job as working
from inhouse.ladder.climb import climb
from inhouse.ladder.job import is_begun, measured, new_job, train
from inhouse.ladder.ledger import read
from inhouse.ladder.page import write_page
from inhouse.ladder.plan import Plan, new_plan
from inhouse.ladder.show import ledger_tables, verdict
from inhouse.pipeline.runner import Stopped

RECIPE = """
[data]
sources = [{ name = "sums", path = "sums", licence = "unknown" }]
processes = 1
[tokenizer]
vocab_size = 265
processes = 1
[model]
architecture = "qwen3"
size = "tiny"
head_dim = 8
hidden_size = 32
context = 32
[pretrain]
batch_tokens = 256
tokens_per_parameter = 0.1
compile = false
precision = "fp32"
device = "cpu"
[evaluate]
xz_training_bytes = 0
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "sums").mkdir()
    for number in range(80):
        (folder / "sums" / f"{number}.txt").write_text(text(number))
    (folder / "tiny.toml").write_text(RECIPE)
    return folder / "tiny.toml"


def plan(recipe: Path, *tried: str) -> Plan:
    return new_plan(recipe, [], tried, rungs=4, seeds=1, top=4)


@pytest.fixture(scope="module")
def ladder(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ladder")
    calls: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(job: Any) -> None:  # Ctrl-C in the third run
            if len(calls) == 2:
                raise Stopped("stopped", 130)
            calls.append(job.run)
            train(job)

        patch.setattr(gc, "collect", lambda *generation: 0)  # half of the time of stages as short as these
        patch.setattr(climbing, "train", interrupted)
        with pytest.raises(Stopped):
            climb(plan(recipe, "square-root"), folder, 1, 100, say=lambda line: None)
        patch.setattr(climbing, "train", lambda job: (calls.append(job.run), train(job)))
        entry = climb(plan(recipe, "square-root"), folder, 1, 100, say=lambda line: None)
        again = climb(plan(recipe, "square-root"), folder, 1, 100, say=lambda line: None)
    return {"folder": folder, "entry": entry, "again": again, "calls": calls}


def test_every_run_is_trained_once_and_the_text_made_once(ladder: dict[str, Any]) -> None:
    assert len(set(ladder["calls"])) == len(ladder["calls"]) == 4 * 2
    assert ladder["again"] == ladder["entry"]
    assert len(list((ladder["folder"] / "runs").glob("text-*"))) == 1


def test_a_folder_with_another_name_is_the_same_ladder(
    ladder: dict[str, Any], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(climbing, "train", lambda job: pytest.fail(f"{job.run} is trained again"))
    elsewhere = ladder["folder"].with_name("elsewhere")
    ladder["folder"].rename(elsewhere)
    try:
        entry = climb(plan(recipe, "square-root"), elsewhere, 1, 100, say=lambda line: None)
    finally:
        elsewhere.rename(ladder["folder"])
    assert entry == ladder["entry"]


def test_other_code_makes_another_ladder(ladder: dict[str, Any], recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose predictions and verdict are its own: those of the code before are not said again."""
    made = plan(recipe, "square-root")

    def id_of() -> str:
        jobs = {
            ("sums", arm.name): climbing._jobs(ladder["folder"], arm, made.seeds, climbing._cores())
            for arm in made.corpora["sums"]
        }
        return climbing._id_of(made, jobs)

    assert id_of() == ladder["entry"]["ladder"]
    monkeypatch.setattr(working, "_code", lambda parts: "another")
    assert id_of() != ladder["entry"]["ladder"]


def test_a_run_on_other_text_is_made_anew_without_asking(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bool] = []
    monkeypatch.setattr(working, "run_stages", lambda *of, agrees: answers.append(agrees("much work again?")))
    job = new_job(tmp_path, plan(recipe, "cosine").corpora["sums"][0].rungs(1)[0], (), 1)
    working.make_text(job)
    train(job)
    assert answers == [True, True]


def test_the_code_of_a_verdict_makes_no_other_runs() -> None:
    names = {path.name for path in working._code_files(working._ROOMS + working._OF_EXPERIMENTS)}
    assert {"experiments.py", "all_adamw.py", "loop.py", "muon.py"} <= names
    assert not names & {"climb.py", "fit.py", "verdict.py", "efficiency_gain.py"}


def test_who_looks_again_is_told(ladder: dict[str, Any], recipe: Path) -> None:
    made = plan(recipe, "square-root")
    assert not any("single look" in remark for remark in ladder["entry"]["remarks"])
    (remark,) = climbing._looks(made, read(ladder["folder"]))
    assert remark.startswith("tried on tiny by 1 ladders before")


def test_one_text_under_two_names_is_no_second_corpus(recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(recipe.parent / "sums", tmp_path / "prose")
    made = new_plan(recipe, [], ["cosine"], [tmp_path / "prose"], rungs=4, seeds=1, top=4)
    with pytest.raises(ValueError, match="prose and sums hold out the same text; --also wants another kind"):
        climb(made, tmp_path / "ladder", 1, 100, say=lambda line: None)
    assert not list((tmp_path / "ladder" / "runs").glob("depth-*"))


def test_ladders_share_a_baseline_and_nothing_that_is_another(ladder: dict[str, Any], recipe: Path) -> None:
    def runs(arm: int, *tried: str) -> list[Path]:
        rungs = plan(recipe, *tried).corpora["sums"][arm].rungs(1)
        experiments = plan(recipe, *tried).corpora["sums"][arm].experiments
        return [new_job(ladder["folder"], each, experiments, climbing._cores()).run for each in rungs]

    assert all(run in ladder["calls"] for run in runs(0, "cosine"))
    assert not any(run in ladder["calls"] for run in runs(1, "cosine"))
    assert not any(run in ladder["calls"] for run in runs(1, "pretrain.head_lr=0.01"))


def test_a_loss_on_another_text_is_no_baseline(ladder: dict[str, Any], recipe: Path) -> None:
    made = plan(recipe, "cosine").corpora["sums"][0].rungs(1)[0]
    job = new_job(ladder["folder"], made, (), climbing._cores())
    other = job._replace(text=ladder["folder"] / "runs" / "text-of-another")
    assert measured(job) and is_begun(job)
    assert not measured(other) and not is_begun(other)


def test_a_loss_of_an_earlier_training_is_none_of_this_one(
    ladder: dict[str, Any], recipe: Path, tmp_path: Path
) -> None:
    job = new_job(ladder["folder"], plan(recipe, "cosine").corpora["sums"][0].rungs(1)[0], (), climbing._cores())
    copied = job._replace(run=tmp_path / "run")
    shutil.copytree(job.run, copied.run, symlinks=True)
    assert measured(copied) == measured(job)
    record = copied.run / "loss" / "stage.json"
    record.write_text(record.read_text().replace('"pretrain": "sha256:', '"pretrain": "sha256:0'))
    assert measured(copied) is None


def test_the_entry_has_gains_in_flops_and_seconds(ladder: dict[str, Any]) -> None:
    (found,) = ladder["entry"]["corpora"].values()
    assert [rung["depth"] for rung in found["rungs"]] == [1, 2, 3, 4]
    flops = [rung["baseline"]["flops"] for rung in found["rungs"]]
    assert flops == sorted(flops)
    for rung in found["rungs"]:
        assert rung["baseline"]["losses"] != rung["candidate"]["losses"]
        assert all(second > 0 for second in rung["candidate"]["seconds"])
    for unit in ("flops", "seconds"):
        assert len(found[unit]["gains"]) == 4
        low, high = found[unit]["overall"][1:]
        assert low < found[unit]["overall"][0] < high
        assert len(found[unit]["ahead"]) == 3
    assert ladder["entry"]["verdict"] in ("reject", "not resolved")  # on one corpus nothing is adopted


def test_a_rung_is_foretold_before_it_is_trained_and_the_error_kept(ladder: dict[str, Any]) -> None:
    entries = read(ladder["folder"])
    assert [entry["kind"] for entry in entries] == [*(["prediction"] * 2 + ["outcome"] * 2) * 2, "ladder"]
    assert [bool(entry["assumed_irreducible"]) for entry in entries if entry["kind"] == "prediction"] == [True] * 2 + [
        False
    ] * 2
    assert entries[2]["error"] == pytest.approx(entries[0]["loss"] / entries[2]["loss"] - 1)


def test_too_few_unique_tokens_are_refused_before_training(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"sums: the largest rung trains on .* epochs of the .* more than 0.1; give more"
    ):
        climb(plan(recipe, "square-root"), tmp_path, 1, 0.1, say=lambda line: None)
    assert not list((tmp_path / "runs").glob("depth-*"))


def test_the_table_and_the_page_show_the_ladder(ladder: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=200)
    for part in (*verdict(ladder["entry"]), *ledger_tables(read(ladder["folder"]), ladder["folder"])):
        console.print(part)
    said = capsys.readouterr().out
    assert "tokens an active parameter; seeds a rung: 1" in said
    assert "square-root" in said
    page = write_page(ladder["folder"]).read_text()
    assert page.count("<svg") == 2
    assert "efficiency gain, 95 %" in page


def test_an_empty_ledger_is_a_sentence_and_an_empty_page(tmp_path: Path) -> None:
    (sentence,) = ledger_tables([], tmp_path)
    assert "no ladder has been climbed yet" in str(sentence)
    assert "No ladder has been climbed yet" in write_page(tmp_path).read_text()


def test_runs_go_side_by_side_and_one_that_fails_ends_the_others(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(recipe, "cosine").corpora["sums"][0].rungs(1)
    jobs = [new_job(tmp_path, each, (), 1) for each in made]
    started: list[subprocess.Popen[str]] = []
    most = 0

    def start(job: Any) -> "subprocess.Popen[str]":
        nonlocal most
        most = max(most, 1 + sum(each.poll() is None for each in started))
        command = ending if job is failing else "sleep 0.1"
        started.append(subprocess.Popen(["sh", "-c", command], text=True))
        return started[-1]

    monkeypatch.setattr(climbing, "_start", start)
    failing = None
    climbing.carry_out(jobs, 2, tmp_path)
    assert (len(started), most) == (len(jobs), 2)
    failing, ending = jobs[0], "exit 3"
    with pytest.raises(ValueError, match="ended with exit status 3"):
        climbing.carry_out(jobs, 2, tmp_path)
    ending = "kill -9 $$"
    with pytest.raises(ValueError, match="was killed by signal 9; where"):
        climbing.carry_out(jobs, 2, tmp_path)
    assert all(each.poll() is not None for each in started)
