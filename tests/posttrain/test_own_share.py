"""A few own conversations beside many made ones are said to be lost, before anything runs."""

import json
from pathlib import Path

import pytest

from inhouse.posttrain import own_share
from inhouse.posttrain.own_share import lost_beside_made
from inhouse.posttrain.settings import SftSettings


def lines(path: Path, count: int) -> Path:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text((json.dumps({"messages": turns}) + "\n") * count)
    return path


def said(*sources: object, **generated: int) -> str | None:
    return lost_beside_made(SftSettings(conversations=sources, generated=generated))


@pytest.mark.parametrize(("count", "is_lost"), [(1, True), (19, True), (20, False), (500, False)])
def test_fewer_than_a_fiftieth_of_an_epoch_are_lost(tmp_path: Path, count: int, is_lost: bool) -> None:
    assert (said(lines(tmp_path / "a.jsonl", count), addition=980) is not None) == is_lost


def test_the_sentence_names_a_weight_that_is_enough(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", 5)
    sentence = said(path, addition=12_500)
    assert sentence is not None and "5 conversations of your own beside 12,500 made by code" in sentence
    weight = int(sentence.partition("weight = ")[2].partition(",")[0])
    assert said({"path": path, "weight": weight}, addition=12_500) is None
    assert said({"path": path, "weight": weight / 5}, addition=12_500) is not None
    assert said(path) is None  # nothing beside them


def test_files_count_together_and_none_is_no_case(tmp_path: Path) -> None:
    one, other = lines(tmp_path / "a.jsonl", 15), lines(tmp_path / "b.jsonl", 15)
    assert said(one, other, addition=980) is None
    assert said(one, {"path": other, "weight": 0.1}, addition=980) is not None
    assert said(addition=980) is None


def test_no_more_is_read_than_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(path: Path):
        while True:
            yield []

    monkeypatch.setattr(own_share, "read_conversations", endless)
    assert said(tmp_path / "a.jsonl", addition=14_500) is None
