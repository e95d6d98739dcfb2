"""A comparison of two models as people and programs read it: a table, a page with the answers side by side, JSON."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from inhouse.common.files import write_atomic
from inhouse.common.page import render_page
from inhouse.common.terminal import visible
from inhouse.evaluate.compare.comparison import Comparison, Flip
from inhouse.evaluate.compare.statistics import LEAST_SIGNAL

_FLIPS_SHOWN = 200  # of a task, in each direction
_CHARACTERS_SHOWN = 4_000  # of a prompt or an answer
COLUMNS = (
    "task", "metric", "n", "clusters", "A", "B", "A - B", "95 % interval", "p", "p exact", "p Holm", "could be seen",
    "A up", "B up", "verdict",
)  # fmt: skip
_WHOLE = ("A", "B", "A - B", "95 % interval")  # cells that are not broken into lines
LEGEND = (
    "A and B: mean ± standard error, over clusters of items that share a passage or a document.",
    "p: two models that are equally good would differ so much; by swapping their answers in whole clusters, ties half. "
    "The interval is the one that fits it.",
    "p exact: the same with ties in full; where every cluster is one item, the exact McNemar test.",
    "p Holm: p for the number of tasks. The verdict goes by it: below 0.05 one of the two is better.",
    "could be seen: a true difference of that size is found in 80 % of such comparisons, one of half of it in 30 %.",
    "A up, B up: items on which that side scores higher.",
)


def table(compared: Comparison) -> Table:
    """One row a task, for a terminal."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns(compared):
        shown.add_column(
            name, justify="left" if name in ("task", "metric", "verdict") else "right", no_wrap=name in _WHOLE
        )
    for row in rows(compared):
        shown.add_row(*(Text(visible(cell)) for cell in row))  # `task [filter]` is no markup
    return shown


def lines(compared: Comparison) -> list[str]:
    """Below the table: what was not compared, and the verdict."""
    models = f"A is {compared.a.get('model')}, B is {compared.b.get('model')}"
    return [visible(line) for line in (models, *(f"note: {note}" for note in compared.notes), compared.verdict)]


def as_json(compared: Comparison) -> str:
    """The comparison without the answers; null is what cannot be said."""
    models = {
        name: {key: side.get(key) for key in ("model", "kind")} for name, side in zip("ab", compared[:2], strict=True)
    }
    tasks = [row._asdict() for row in compared.tasks]
    facts = models | {"tasks": tasks, "notes": compared.notes, "verdict": compared.verdict}
    return json.dumps(facts, indent=2, allow_nan=False)


def write_page(path: Path, compared: Comparison) -> None:
    """One page, whole in one file: the table, and what flipped, side by side."""
    page = render_page(
        "inhouse.report",
        "comparison.html.jinja",
        a=compared.a.get("model"),
        b=compared.b.get("model"),
        a_kind=compared.a.get("kind"),
        b_kind=compared.b.get("kind"),
        verdict=compared.verdict,
        columns=columns(compared),
        rows=list(rows(compared)),
        notes=compared.notes,
        legend=LEGEND if "signal / noise" not in columns(compared) else (*LEGEND, _SIGNAL_LEGEND),
        flips=list(_groups(compared)),
    )
    write_atomic(path, page)


_SIGNAL_LEGEND = (
    "signal / noise: the difference over the standard deviation between checkpoints; "
    f"below {LEAST_SIGNAL:g} no decision is drawn."
)


def columns(compared: Comparison) -> list[str]:
    """Signal over noise stands there where checkpoints were given."""
    has_signal = any(row.signal is not None for row in compared.tasks)
    return [*COLUMNS[:-1], *(["signal / noise"] if has_signal else []), COLUMNS[-1]]


def rows(compared: Comparison) -> Iterator[list[str]]:
    has_signal = "signal / noise" in columns(compared)
    for row in compared.tasks:
        places = 4 if row.metric == "bits_per_byte" else 3
        show = f"{{:+z.{places}f}}".format
        interval = "n/a" if row.low is None or row.high is None else f"{show(row.low)} to {show(row.high)}"
        cells = [row.task, row.metric, f"{row.n:,}", f"{row.clusters:,}"]
        cells += [_with_error(row.a, row.a_error, places), _with_error(row.b, row.b_error, places)]
        cells += [show(row.difference), interval]
        cells += [_p(row.p), _p(row.p_exact), _p(row.p_holm)]
        cells += [
            "n/a" if row.visible is None else f"{row.visible:.{places}f}",
            f"{row.a_higher:,}",
            f"{row.b_higher:,}",
        ]
        signal = "n/a" if row.signal is None else f"{row.signal:.1f}"
        yield [*cells, *([signal] if has_signal else []), row.verdict]


def _with_error(value: float, error: float | None, places: int) -> str:
    return f"{value:z.{places}f}" + ("" if error is None else f" ± {error:.{places}f}")


def _p(value: float | None) -> str:
    return "n/a" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _groups(compared: Comparison) -> Iterator[dict[str, Any]]:
    for row in compared.tasks:
        flips = compared.flips[row.task]
        for title, chosen in (
            ("A scores higher", [flip for flip in flips if flip.a_score > flip.b_score]),
            ("B scores higher", [flip for flip in flips if flip.a_score < flip.b_score]),
        ):
            if chosen:
                yield {"task": row.task, "title": _counted(title, chosen), "shown": list(map(_shown, _largest(chosen)))}


def _largest(flips: Sequence[Flip]) -> list[Flip]:
    """Those that differ most; of equal ones the first."""
    return sorted(flips, key=lambda flip: -abs(flip.a_score - flip.b_score))[:_FLIPS_SHOWN]


def _counted(title: str, flips: Sequence[Flip]) -> str:
    more = f", of which {_FLIPS_SHOWN} are shown" if len(flips) > _FLIPS_SHOWN else ""
    return f"{title} on {len(flips):,}{more}"


def _shown(flip: Flip) -> dict[str, Any]:
    prompt = _cut(flip.a.prompt)
    first = next((line for line in reversed(prompt.splitlines()) if line.strip()), "")
    return {
        "title": f"item {flip.a.number}: {first[-80:]}",
        "prompt": prompt,
        "gold": None if flip.a.gold is None else _cut(flip.a.gold),
        "a": _cut(flip.a.output),
        "b": _cut(flip.b.output),
        "a_score": f"{flip.a_score:.4g}",
        "b_score": f"{flip.b_score:.4g}",
    }


def _cut(text: str) -> str:
    """The end of a long text: an item's own question stands behind its examples."""
    return text if len(text) <= _CHARACTERS_SHOWN else f"… {text[-_CHARACTERS_SHOWN:]}"
