"""What MODEL means on the command line, and whether it is what the recipe would make now."""

from pathlib import Path

import pytest
from tests.fabricated_run import fabricate, finish

from inhouse.common.files import write_json
from inhouse.common.lineage import OUTDATED
from inhouse.common.model_paths import find_model, find_run, model_name, stale_notice


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = fabricate(tmp_path / "mine", until="sft")
    for stage in ("pretrain", "sft"):
        write_json(run / stage / "config.json", {})
        finish(run, stage)
    return run


def test_a_run_means_its_furthest_model_and_a_folder_itself(run: Path) -> None:
    assert find_model(run) == run / "sft"
    assert find_model(run / "pretrain") == run / "pretrain"
    assert (find_run(run / "pretrain"), model_name(run / "pretrain")) == (run, "mine")
    with pytest.raises(ValueError, match="no model here yet"):
        find_model(run / "data")
    with pytest.raises(ValueError, match="no such folder"):
        find_model(run / "nowhere")


def test_a_model_that_is_not_what_would_be_made_now_is_told_with_its_reason(run: Path) -> None:
    assert stale_notice(run) is None
    write_json(run / OUTDATED, {"sft": "sft.epochs: 1 → 2"})
    assert stale_notice(run) == f"{run / 'sft'} is stale (sft.epochs: 1 → 2): `inhouse make` brings it up to date"
    assert stale_notice(run / "pretrain") is None


def test_a_model_whose_inputs_were_made_anew_beside_it_is_stale_transitively(run: Path) -> None:
    write_json(run / "data" / "counts.json", {"sources": []})
    finish(run, "data")
    finish(run, "tokenizer")  # from the new text, and other for it
    write_json(run / "tokenizer" / "tokenizer.json", {"vocabulary": 301})
    finish(run, "tokenizer")
    assert "made from another tokenizer" in str(stale_notice(run / "pretrain"))
    assert "made from another data" in str(stale_notice(run)) or "pretrain is stale" in str(stale_notice(run))


def test_a_model_of_no_run_is_never_stale(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    write_json(tmp_path / "theirs" / "config.json", {})
    assert stale_notice(tmp_path / "theirs") is None
    assert model_name(tmp_path / "theirs") == "theirs"
