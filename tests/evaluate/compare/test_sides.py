"""What a path is, and what can be compared with what."""

import copy
import math
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.compare.other_programs import (
    answer,
    choice_row,
    inspect_header,
    sample,
    scored,
    write_inspect,
    write_lm_eval,
    write_ours,
)

from inhouse.evaluate.compare.sides import differing_keys, kind_of, read_side, read_sides


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    ours = write_ours(tmp_path / "ours", [answer(0, {"accuracy": 1.0})])
    theirs = write_lm_eval(tmp_path / "theirs", {"letters": scored([1])})
    log = write_inspect(tmp_path / "logs.eval", [sample(1, "C")])
    assert [kind_of(str(path)) for path in (ours, theirs, log)] == ["inhouse", "lm-eval", "inspect"]
    assert kind_of(str(next(theirs.rglob("samples_*")))) == "lm-eval"


def test_ours_and_lm_evals_match_by_their_documents(tmp_path: Path) -> None:
    ours = write_ours(tmp_path / "ours", [answer(n, {"accuracy": 1.0}) for n in range(3)])
    theirs = write_lm_eval(tmp_path / "theirs", {"letters": scored([1, 0, 1], "acc")})
    a, b = read_sides(str(ours), str(theirs))
    assert [(x.item, x.prompt_hash, list(x.metrics)) for x in a.answers] == [
        (x.item, x.prompt_hash, list(x.metrics)) for x in b.answers
    ]


def test_a_log_of_inspects_matches_no_other_kind(tmp_path: Path) -> None:
    theirs = write_lm_eval(tmp_path / "theirs", {"letters": scored([1])})
    log = write_inspect(tmp_path / "logs.eval", [sample(1, "C")])
    for pair in ((theirs, log), (log, theirs)):
        with pytest.raises(ValueError, match=r"logs\.eval: a log of Inspect's does not hold items .* with lm-eval"):
            read_sides(*map(str, pair))


def test_our_results_know_their_clusters(tmp_path: Path) -> None:
    ours = str(write_ours(tmp_path / "ours", [answer(0, {"accuracy": 1.0})]))
    with pytest.raises(ValueError, match="--cluster passage: our own results hold what their items share"):
        read_sides(ours, ours, "passage")


def test_what_has_no_results_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").touch()
    for n in range(2):
        write_ours(tmp_path / "many" / f"suite{n}", [])
    write_ours(tmp_path / "one" / "suite", [])
    for path, said in {
        "http://localhost/v1": "an endpoint; `inhouse eval http://localhost/v1 --suite NAME`",
        str(tmp_path / "model"): r"a model; `inhouse eval .*model --suite NAME` asks it",
        str(tmp_path / "nothing"): "no such file or folder",
        str(tmp_path / "empty"): "no results here",
        str(tmp_path / "x.csv"): r"a \.csv file",
        str(tmp_path / "many"): r"2 results folders are in it; name one, such as .*suite0",
        str(tmp_path / "one"): r"the results are in .*suite; name that folder",
        str(tmp_path / "one" / "suite" / "answers.jsonl"): "name its folder",
    }.items():
        with pytest.raises(ValueError, match=said):
            kind_of(path)


def replaced(value: Any, rng: random.Random) -> Any:
    """A copy with one part, at any depth, left out or something else."""
    value, holder, key = copy.deepcopy(value), None, None
    part = value
    while part and isinstance(part, dict | list) and (holder is None or rng.random() < 0.8):
        holder, key = part, rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
        part = holder[key]
    other = rng.choice([None, True, -1, 1.5, "", "x", [], [1], {}, {"a": 1}, [[]], [{}], math.nan, 10**400])
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = other
    return value


@pytest.mark.parametrize("kind", ["lm-eval", "results", "eval", "json", "header"])
def test_whatever_a_field_holds_is_read_or_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    rng = random.Random(0)
    for number in range(80):
        path = tmp_path / f"{number}.{'json' if kind in ('json', 'header') else 'eval'}"
        if kind in ("lm-eval", "results"):
            row, about = choice_row(0, [-3.0, -1.0], 1), {"n-shot": {"t": 0}, "model_name": "m"}
            changed = (replaced(row, rng), about) if kind == "lm-eval" else (row, replaced(about, rng))
            write_lm_eval(path, {"t": [changed[0]]}, changed[1])
        else:
            header = replaced(inspect_header(), rng) if kind == "header" else None
            write_inspect(path, [sample(1, "C")] if kind == "header" else [replaced(sample(1, "C"), rng)], header)
        with suppress(ValueError):
            read_side(str(path))


def test_keys_that_differ_are_named_with_both_values() -> None:
    a, b = {"x": 1, "y": {"z": [1], "same": 0}}, {"x": 1, "y": {"z": [2], "same": 0}, "new": "t"}
    assert list(differing_keys(a, b)) == ['new (null and "t")', "y.z ([1] and [2])"]
