"""A whole ladder of the tiniest sizes: trained once, its text and its baseline shared, everything in the ledger."""

from pathlib import Path
from typing import Any

import pytest
from tests.train.tiny_text import text

from inhouse.ladder import climb as climbing
from inhouse.ladder.climb import climb
from inhouse.ladder.job import train
from inhouse.ladder.ledger import read
from inhouse.ladder.plan import Plan, new_plan
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
tokens_per_parameter = 0.3
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
    return new_plan(recipe, [], tried, rungs=3, seeds=2, top=3)


@pytest.fixture(scope="module")
def ladder(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ladder")
    calls: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(climbing, "train", lambda job: (calls.append(job.run), train(job)))

        # Ctrl-C in the third run, then the same ladder again, then another one
        def interrupted(job: Any) -> None:
            if len(calls) == 2:
                raise Stopped("stopped", 130)
            calls.append(job.run)
            train(job)

        with patch.context() as inner:
            inner.setattr(climbing, "train", interrupted)
            with pytest.raises(Stopped):
                climb(plan(recipe, "adamw"), folder, 1, 100, say=lambda line: None)
        entry = climb(plan(recipe, "adamw"), folder, 1, 100, say=lambda line: None)
        first = len(calls)
        again = climb(plan(recipe, "adamw"), folder, 1, 100, say=lambda line: None)
        other = climb(plan(recipe, "cosine", "pretrain.weight_decay=0.0"), folder, 1, 100, say=lambda line: None)
    return {"folder": folder, "entry": entry, "again": again, "other": other, "calls": calls, "first": first}


def test_every_run_is_trained_once_and_ladders_share_their_baseline(ladder: dict[str, Any]) -> None:
    assert len(set(ladder["calls"])) == len(ladder["calls"])
    assert ladder["first"] == 3 * 2 * 2
    assert len(ladder["calls"]) == 3 * 2 * 3
    assert ladder["again"] == ladder["entry"]
    assert len(list((ladder["folder"] / "text").iterdir())) == 1


def test_the_entry_has_gains_in_flops_and_seconds(ladder: dict[str, Any]) -> None:
    (found,) = ladder["entry"]["corpora"].values()
    assert [rung["depth"] for rung in found["rungs"]] == [1, 2, 3]
    flops = [rung["baseline"]["flops"] for rung in found["rungs"]]
    assert flops == sorted(flops)
    for rung in found["rungs"]:
        assert rung["baseline"]["losses"] != rung["candidate"]["losses"]
        assert len(set(rung["baseline"]["losses"])) == 2  # seeds
        assert all(second > 0 for second in rung["candidate"]["seconds"])
    for unit in ("flops", "seconds"):
        assert len(found[unit]["gains"]) == 3
        low, high = found[unit]["overall"][1:]
        assert low < found[unit]["overall"][0] < high
        assert len(found[unit]["ahead"]) == 3
    assert ladder["entry"]["verdict"] in ("reject", "not resolved")  # on one corpus nothing is adopted


def test_a_rung_is_foretold_before_it_is_trained_and_the_error_kept(ladder: dict[str, Any]) -> None:
    entries = [entry for entry in read(ladder["folder"]) if entry.get("ladder") == ladder["entry"]["ladder"]]
    assert [entry["kind"] for entry in entries] == ["prediction", "prediction", "outcome", "outcome", "ladder"]
    assert all(entry["assumed_irreducible"] for entry in entries[:2])
    assert entries[2]["error"] == pytest.approx(entries[0]["loss"] / entries[2]["loss"] - 1)


def test_a_baseline_that_is_known_is_not_foretold(ladder: dict[str, Any]) -> None:
    entries = [entry for entry in read(ladder["folder"]) if entry.get("ladder") == ladder["other"]["ladder"]]
    assert [entry["arm"] for entry in entries if entry["kind"] == "prediction"] == ["candidate"]


def test_too_few_unique_tokens_are_refused_before_training(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"sums: the largest rung trains on .* epochs of the .* more than 0.1; give more"
    ):
        climb(plan(recipe, "adamw"), tmp_path, 1, 0.1, say=lambda line: None)
    assert not (tmp_path / "runs").exists()
