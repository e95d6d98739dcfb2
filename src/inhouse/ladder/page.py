"""`ladder.html`: every ladder of a project on one page, whole in one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inhouse.common.files import write_atomic
from inhouse.ladder.fit import Law
from inhouse.ladder.ledger import read
from inhouse.ladder.show import COLUMNS, ladder_rows, law_in_words, total_seconds
from inhouse.report.plots import point_chart

_POINTS = 60  # of a drawn law


def write_page(folder: Path) -> Path:
    """Draw the ledger in `folder`, the newest ladder first; return the page."""
    from jinja2 import Environment, PackageLoader

    entries = read(folder)
    ladders = [entry for entry in reversed(entries) if entry["kind"] == "ladder"]
    templates = Environment(loader=PackageLoader("inhouse.ladder", "."), autoescape=True)
    page = templates.get_template("ladder.html.jinja").render(
        columns=COLUMNS,
        rows=list(ladder_rows(ladders)),
        ladders=[
            {
                "entry": entry,
                "charts": [chart for corpus, found in entry["corpora"].items() for chart in _charts(corpus, found)],
                "took": total_seconds(entry),
                "laws": [f"{corpus}: {law_in_words(found['flops'])}" for corpus, found in entry["corpora"].items()],
            }
            for entry in ladders
        ],
        outcomes=[entry for entry in entries if entry["kind"] == "outcome"],
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "ladder.html", page)
    return folder / "ladder.html"


def _charts(corpus: str, found: dict[str, Any]) -> list[tuple[str, str]]:
    rungs, law = found["rungs"], found["flops"]["law"]
    points = {arm: [_loss(rung[arm]) for rung in rungs] for arm in ("baseline", "candidate")}
    compute = [x for rows in points.values() for x, *_ in rows]
    xs = np.geomspace(min(compute), max(compute), _POINTS).tolist()
    drawn = Law(law["A"], law["alpha"], law["E"], law["unit"], np.zeros((3, 0)), 0.0)
    lines = {"baseline": (xs, [drawn.loss(x) for x in xs])}
    gains = {
        f"in {unit}": [
            (_loss(rung["candidate"])[0], *gain) for rung, gain in zip(rungs, found[key]["gains"], strict=True)
        ]
        for unit, key in (("FLOPs", "flops"), ("seconds", "seconds"))
    }
    return [
        (f"{corpus}: held-out loss, ± its standard error", point_chart(points, "FLOPs", "bits per byte", lines=lines)),
        (
            f"{corpus}: efficiency gain, 95 %",
            point_chart(gains, "FLOPs", "× baseline's compute", level=1.0, log_y=True),
        ),
    ]


def _loss(runs: dict[str, Any]) -> tuple[float, float, float, float]:
    losses: Sequence[float] = runs["losses"]
    mean = float(np.mean(losses))
    error = float(np.std(losses, ddof=1)) / len(losses) ** 0.5 if len(losses) > 1 else 0.0
    return runs["flops"], mean, mean - error, mean + error
