"""A trace names every source, input, output, code and machine, and finds what does not fit its digest."""

from pathlib import Path

import pytest
from tests.fabricated_run import CODE, HOST, LABELS, change_record, fabricate

from inhouse.common.files import digests, read_json, write_json
from inhouse.common.lineage import OUTDATED, RECORD, lineage
from inhouse.report.trace import load_lineage, render, verify_lineage


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fabricate(tmp_path / "mine")


@pytest.fixture
def exported(run: Path, tmp_path: Path) -> Path:
    """An exported folder, away from its run."""
    folder = tmp_path / "elsewhere"
    (run / "export" / "huggingface").rename(folder)
    write_json(folder / "lineage.json", lineage(run) | {"files": digests(folder)})
    return folder


def stage_lines(run: Path, stage: str) -> list[str]:
    """What stands below the heading of a stage."""
    blocks = "\n".join(render(load_lineage(run))).split("\n\n")
    (block,) = [block for block in blocks if block.startswith(f"{stage}: ")]
    return [line.strip() for line in block.splitlines()]


def test_sources_stand_first_with_licence_counts_and_what_was_skipped(run: Path) -> None:
    assert list(render(load_lineage(run)))[:5] == [
        "lineage of mine",
        "",
        "sources",
        "  mine (/texts): licence CC0-1.0, files 12,345, documents 9,876, cp1252 3, </s> 1,234",
        "    binary: 2 (a.png, b.png)",
    ]


def test_every_stage_has_its_settings_inputs_outputs_code_and_host(run: Path) -> None:
    record = read_json(run / "sft" / RECORD)
    assert stage_lines(run, "sft") == [
        "sft: 2026-11-25T03:04:05+00:00, 1 min 00 s",
        'settings  {"sft": {"setting of": "sft"}}',
        f"input     data {record['inputs']['stages']['data']}",
        f"input     tokenizer {record['inputs']['stages']['tokenizer']}",
        f"input     pretrain {record['inputs']['stages']['pretrain']}",
        f"output    metrics.jsonl {record['outputs']['metrics.jsonl']}",
        "code      inhouse 0.1.0, commit abc123 modified, source sha256:code",
        "host      A processor, 2 cores, 8 GiB, Linux x86_64, Python 3.12.1, torch 2.13.0",
    ]


def test_batches_that_did_not_reach_the_weights_are_named(run: Path) -> None:
    assert "untrained left out: batches 4, 7 to 8" in stage_lines(run, "pretrain")
    assert not any("rewound" in line for line in stage_lines(run, "pretrain"))


def test_what_changed_on_the_way_and_where_it_branched_off_is_told(run: Path) -> None:
    change = {"step": 1200, "key": "train.max_skipped_steps", "old": 8, "new": 20}
    branch = {"from": "pretrain", "step": 555, "first_steps": 1586}
    change_record(run, "pretrain", settings_changed=[change], branch=branch)
    lines = stage_lines(run, "pretrain")
    assert "changed   train.max_skipped_steps from 8 to 20, from step 1,200 on" in lines
    assert "branch    of pretrain, from step 555 on" in lines
    change_record(run, "pretrain", branch={"from": "pretrain", "declined": "no checkpoint"})
    assert not any(line.startswith("branch") for line in stage_lines(run, "pretrain"))


def test_every_attempt_has_its_code_and_host(run: Path) -> None:
    first = {"started": "2026-11-25T01:00:00+00:00", "code": CODE, "host": HOST}
    second = {"started": "x", "code": {"version": "0.2.0", "source": "sha256:s"}, "host": HOST | {"gpus": ["H100"]}}
    change_record(run, "sft", attempts=[first, second])
    lines = stage_lines(run, "sft")
    assert lines[0] == "sft: 2026-11-25T01:00:00+00:00, 1 min 00 s, resumed 1 time"
    assert "code      inhouse 0.2.0, source sha256:s" in lines
    assert sum(line.startswith("host") for line in lines) == 2
    assert "8 GiB, H100, Linux" in lines[-1]


def test_stages_of_other_code_or_torch_are_named_in_a_line(run: Path) -> None:
    assert not any(line.startswith("made with") for line in render(load_lineage(run)))
    attempt = {"started": "2026-11-25T03:04:05+00:00", "code": CODE | {"source": "sha256:old"}, "host": HOST}
    change_record(run, "data", attempts=[attempt])
    change_record(run, "sft", attempts=[attempt | {"code": CODE, "host": HOST | {"torch": "2.12.0"}}])
    assert [line for line in render(load_lineage(run)) if line.startswith("made with")] == [
        "made with other code than export: data",
        "made with other torch than export: sft",
    ]


def test_what_is_stale_is_named_at_the_top_and_a_source_may_be_called_like_a_stage(run: Path) -> None:
    change_record(run, "data", labels={"sources": [LABELS | {"name": "data"}]})
    assert verify_lineage(run) == []
    assert "input     source data sha256:source" in stage_lines(run, "data")
    write_json(run / OUTDATED, {"sft": "sft.epochs: 1 → 2"})
    assert list(render(load_lineage(run)))[1:4] == [
        "stale: sft, sft.epochs: 1 → 2",
        "stale: evaluate, sft is stale",
        "stale: export, evaluate is stale",
    ]


def test_a_run_its_stages_and_what_was_exported_have_the_same_lineage(run: Path, exported: Path) -> None:
    facts = load_lineage(run)
    assert list(facts["stages"]) == ["data", "tokenizer", "pretrain", "sft", "evaluate", "export"]
    assert load_lineage(run / "sft") == facts
    assert {key: load_lineage(exported)[key] for key in facts} == facts
    with pytest.raises(ValueError, match="no lineage here"):
        load_lineage(exported.parent)


def test_a_run_is_verified_by_its_chain(run: Path) -> None:
    assert verify_lineage(run) == []
    (run / "data" / "counts.json").write_text("{}")
    assert verify_lineage(run / "sft") == [
        f"{run}/data/counts.json: is damaged (its digest is not the one in stage.json)"
    ]


def test_an_exported_folder_is_verified_by_its_own_digests(exported: Path) -> None:
    assert verify_lineage(exported) == []
    (exported / "config.json").write_text("{}")
    assert verify_lineage(exported) == [f"{exported}/config.json: is damaged or changed"]
    (exported / "config.json").unlink()
    assert verify_lineage(exported) == [f"{exported}/config.json: is missing"]
    write_json(exported / "lineage.json", read_json(exported / "lineage.json") | {"files": {}})
    with pytest.raises(ValueError, match="holds no digests of files to verify"):
        verify_lineage(exported)
