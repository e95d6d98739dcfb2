"""Charts as SVG texts that stand inside an HTML page: its fonts, its colours, light or dark."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 600  # a line; more cannot be seen, and would make the page heavy
_INK = "#010203"  # a colour that nothing else has: replaced by the page's own
_COLOURS = ("#4c8dd6", "#e0803a", "#3fa46a", "#b267c7", "#d4565c", "#2fa3a3", "#8a93a0")
_FAINT = "#9aa3ae80"


def share_bar(shares: Mapping[str, float]) -> str:
    """An SVG of one bar cut into named parts; `shares` need not sum to one, and parts of 0 are left out."""
    parts = {name: share for name, share in shares.items() if share > 0}
    total = sum(parts.values())
    with _figure("share", *parts, height=1.2) as (figure, axes):
        left = 0.0
        for (name, share), colour in zip(parts.items(), _COLOURS * len(parts), strict=False):
            width = 100 * share / total
            axes.barh(0, width, left=left, color=colour, label=f"{name} {width:.1f} %")
            left += width
        axes.set_xlim(0, 100)
        axes.set_axis_off()
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8, labelcolor=_INK)
        return _svg(figure)


def line_chart(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    *,
    from_zero: bool = False,
    faint: str | None = None,
) -> str:
    """An SVG of named lines, each (x values, y values); values that are not finite leave gaps. `faint` names a line
    that stands behind the others.
    """
    from matplotlib.ticker import EngFormatter

    with _figure(x_label, y_label, height=2.7) as (figure, axes):
        for (name, (xs, ys)), colour in zip(lines.items(), _COLOURS * len(lines), strict=False):
            shown = [y if math.isfinite(y) else math.nan for y in _thin(ys)]
            axes.plot(
                _thin(xs), shown, _FAINT if name == faint else colour, lw=1.0 if name == faint else 1.6, label=name
            )
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _label(axes, x_label, y_label)
        if from_zero:
            axes.set_ylim(bottom=0)
        if len(lines) > 1:
            figure.legend(loc="outside upper right", ncols=6, frameon=False, fontsize=8, labelcolor=_INK)
        return _svg(figure)


def point_chart(
    points: Mapping[str, Sequence[tuple[float, float, float, float]]],
    x_label: str,
    y_label: str,
    *,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]] = MappingProxyType({}),
    level: float | None = None,
    log_y: bool = False,
) -> str:
    """An SVG of named points, each (x, y, low, high) with its interval, over a logarithmic x; lines of the same name
    have the points' colour. `level` is a horizontal line to compare with.
    """
    from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

    with _figure(x_label, y_label, *points, height=2.9) as (figure, axes):
        axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        if level is not None:
            axes.axhline(level, color=_INK, alpha=0.5, lw=0.8)
        for number, (name, rows) in enumerate(points.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            xs, ys, lows, highs = zip(*rows, strict=True)
            bars = [[y - low for y, low in zip(ys, lows, strict=True)], [h - y for y, h in zip(ys, highs, strict=True)]]
            axes.errorbar(xs, ys, bars, fmt="o", color=colour, ms=3.5, lw=1.2, capsize=2.5, label=name)
            if name in lines:
                axes.plot(*lines[name], color=colour, lw=1.0, alpha=0.7)
        _label(axes, x_label, y_label)
        if len(points) > 1:
            figure.legend(loc="outside upper right", ncols=6, frameon=False, fontsize=8, labelcolor=_INK)
        return _svg(figure)


def _label(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.grid(axis="y", color=_INK, alpha=0.12, lw=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)


@contextmanager
def _figure(*names: str, height: float) -> "Iterator[tuple[Figure, Axes]]":
    """An empty figure in the page's style; `names` make its ids the same in every run."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.hashsalt": "".join(names),
    }
    style |= {f"{part}.color": _INK for part in ("text", "xtick", "ytick")}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")


def _thin(values: Sequence[float]) -> list[float]:
    """Every n-th value, and always the last."""
    stride = max(1, math.ceil(len(values) / MAX_POINTS))
    thinned = list(values[::stride])
    if values and (len(values) - 1) % stride:
        thinned.append(values[-1])
    return thinned


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential mean with its start corrected; values that are not finite are passed over."""
    mean, total, smoothed = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        smoothed.append(mean / total if total else math.nan)
    return smoothed
