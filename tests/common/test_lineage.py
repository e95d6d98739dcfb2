"""The chain of digests: what breaks it is named, and nothing else is."""

from pathlib import Path

import pytest
from tests.fabricated_run import COUNTS, SOURCE, change_record, fabricate, finish

from inhouse.common.files import read_json
from inhouse.common.lineage import RECORD, check_lineage, check_outputs, digest_of, lineage, read_record, source_labels


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fabricate(tmp_path / "mine")


def test_a_digest_is_of_all_of_a_value_whatever_the_order_of_its_keys() -> None:
    value = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert digest_of(value) == digest_of({"b": {"d": None, "c": [1, 2]}, "a": 1})
    changed = [{"a": 2, "b": value["b"]}, {"a": 1}, {"a": 1, "b": {"c": [2, 1], "d": None}}, {"a": 1, "c": value["b"]}]
    assert len({digest_of(each) for each in (value, *changed)}) == 5


def test_a_record_counts_once_its_stage_is_finished(run: Path, tmp_path: Path) -> None:
    record = read_record(run / "sft")
    assert record is not None and list(record["outputs"]) == ["metrics.jsonl"]
    assert read_record(tmp_path) is None
    (run / "sft" / RECORD).write_text('{"stage": "sft", "settings": {}}')
    assert read_record(run / "sft") is None
    assert "sft" not in lineage(run)["stages"]


def test_lineage_holds_sources_and_records(run: Path, tmp_path: Path) -> None:
    facts = lineage(run)
    assert facts["run"] == "mine"
    assert facts["sources"]["sources"] == [SOURCE]
    assert facts["stages"] == {name: read_json(run / name / RECORD) for name in facts["stages"]}
    assert lineage(fabricate(tmp_path / "begun", until="tokenizer"))["stages"].keys() == {"data", "tokenizer"}
    with pytest.raises(ValueError, match="no finished stage here"):
        lineage(tmp_path)


def test_an_earlier_record_has_its_labels_among_the_settings(run: Path) -> None:
    settings = {"data": {"sources": [{"name": "old", "licence": "MIT", "path": "texts", "include": []}]}}
    change_record(run, "data", settings=settings, labels={})
    assert source_labels(run) == [{"name": "old", "path": "texts", "licence": "MIT"}]
    assert lineage(run)["sources"]["sources"] == [COUNTS | source_labels(run)[0]]


def test_sources_without_labels_go_by_their_number(run: Path) -> None:
    change_record(run, "data", labels={})
    assert source_labels(run) == []
    unknown = {"name": "source 0", "path": "unknown", "licence": "unknown"}
    assert lineage(run)["sources"]["sources"] == [COUNTS | unknown]


def test_a_whole_run_has_no_break(run: Path) -> None:
    assert check_lineage(run) == []


def test_damaged_and_missing_files_are_breaks(run: Path) -> None:
    record = read_json(run / "pretrain" / RECORD)
    (run / "pretrain" / "metrics.jsonl").unlink()
    path = run / "pretrain" / "untrained.json"
    path.write_text(path.read_text().replace("4", "5"))
    expected = [
        f"{run}/pretrain/metrics.jsonl: is missing",
        f"{path}: is damaged (its digest is not the one in {RECORD})",
    ]
    assert check_outputs(run / "pretrain", record) == expected
    assert check_lineage(run) == expected


def test_a_stage_made_from_another_input_is_a_break(run: Path) -> None:
    (run / "pretrain" / "metrics.jsonl").write_text("{}\n")
    finish(run, "pretrain")  # made anew, but not what reads it
    assert check_lineage(run) == [
        f"{run}/{name}: was made from another pretrain than the one that stands beside it"
        for name in ("sft", "evaluate")
    ]


def test_the_input_of_a_stage_that_is_not_there_is_no_break(run: Path) -> None:
    change_record(run, "data", inputs={"mine": "sha256:whatever"})
    assert check_lineage(run) == []
