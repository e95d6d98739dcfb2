"""The two sides of a comparison, each from whatever program answered the items."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inhouse.evaluate.compare.inspect_logs import log_files, read_logs
from inhouse.evaluate.compare.lm_eval import read_samples, sample_files
from inhouse.evaluate.results import ANSWERS, PARTIALS, Results, read_results

OURS, LM_EVAL, INSPECT = "inhouse", "lm-eval", "inspect"


class Sides(NamedTuple):
    """Both, with items and metrics called alike."""

    a: Results
    b: Results


def read_sides(a: str, b: str, cluster: str | None = None) -> Sides:
    """Both sides. Two of one program match by its own keys, lm-eval's and ours by their documents.

    Raises ValueError where one is no result, or where the programs leave nothing to match by.
    """
    kinds = [kind_of(each) for each in (a, b)]
    if INSPECT in kinds and kinds != [INSPECT, INSPECT]:
        raise ValueError(
            f"{b if kinds[1] == INSPECT else a}: a log of Inspect's does not hold items as their data set gives them, "
            f"so they cannot be matched with {kinds[0] if kinds[1] == INSPECT else kinds[1]} results; compare two logs"
        )
    if cluster is not None and OURS in kinds:
        raise ValueError(f"--cluster {cluster}: our own results hold what their items share; leave it out")
    both = [read_side(path, cluster, as_ours=OURS in kinds) for path in (a, b)]
    return Sides(*both)


def read_side(path: str, cluster: str | None = None, as_ours: bool = False) -> Results:
    """Results of any kind; `as_ours` gives the items and metrics of lm-eval's our names."""
    match kind_of(path):
        case "lm-eval":
            return read_samples(Path(path), cluster, as_ours)
        case "inspect":
            return read_logs(Path(path), cluster)
        case _:
            return read_results(Path(path))


def kind_of(path: str) -> str:
    """Which program wrote this. Raises ValueError, with what to do instead, where none did."""
    if "://" in path:
        raise ValueError(
            f"{path}: an endpoint; `inhouse eval {path} --suite NAME` asks it, then give the results folder"
        )
    place = Path(path)
    if not place.exists():
        raise ValueError(f"{path}: no such file or folder")
    if place.is_file():
        return _kind_of_file(place)
    if (place / ANSWERS).is_file() or any(place.glob(PARTIALS)):
        return OURS
    found = [kind for kind, files in ((LM_EVAL, sample_files(place)), (INSPECT, log_files(place))) if files]
    if len(found) == 2:
        raise ValueError(f"{path}: samples of lm-eval's and logs of Inspect's both; name one of the files")
    if found:
        return found[0]
    if (inner := sorted(file.parent for file in place.rglob(ANSWERS))) and len(inner) > 1:
        raise ValueError(f"{path}: {len(inner)} results folders are in it; name one, such as {inner[0]}")
    if inner:
        raise ValueError(f"{path}: the results are in {inner[0]}; name that folder")
    if (place / "config.json").is_file() or (place / "pretrain").is_dir():
        raise ValueError(f"{path}: a model; `inhouse eval {path} --suite NAME` asks it, then give the results folder")
    raise ValueError(
        f"{path}: no results here (answers.jsonl of ours, samples_*.jsonl of lm-eval's, *.eval of Inspect's)"
    )


def _kind_of_file(file: Path) -> str:
    kinds = {".jsonl": LM_EVAL, ".eval": INSPECT, ".json": INSPECT}
    if file.name == ANSWERS:
        raise ValueError(f"{file}: name its folder, {file.parent}")
    if file.suffix not in kinds:
        raise ValueError(
            f"{file}: a {file.suffix or 'nameless'} file; .jsonl of lm-eval's, .eval or .json of Inspect's"
        )
    return kinds[file.suffix]


def differing_keys(a: object, b: object, prefix: str = "") -> Iterator[str]:
    """`key (a and b)` for every place where two settings differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            yield from differing_keys(a.get(key), b.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif a != b:
        yield f"{prefix} ({_short(a)} and {_short(b)})"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
