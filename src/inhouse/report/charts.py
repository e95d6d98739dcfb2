"""The pictures of a training stage: which charts its metrics and its ledger of time give."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inhouse.report.plots import line_chart, share_bar, smooth
from inhouse.resilience.goodput import goodput, read_times

Rows = list[dict[str, Any]]
Line = tuple[list[float], list[float]]  # x values, y values


def read_metrics(stage: Path) -> Rows:
    """What a training stage logged, one row a step; none where it has not trained."""
    path = stage / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def stage_charts(stage: Path) -> list[tuple[str, str]]:
    """(caption, SVG) of everything that a training stage measured; a figure that it has not is left out."""
    steps = read_metrics(stage)
    return [*_step_charts(steps), *time_chart(stage)] if steps else []


def time_chart(stage: Path) -> Iterator[tuple[str, str]]:
    """Where the stage's time went, if it kept a ledger."""
    if seconds := read_times(stage):
        yield f"where the time went: goodput {100 * goodput(seconds):.1f} %", share_bar(seconds)


def _step_charts(steps: Rows) -> Iterator[tuple[str, str]]:
    xs, x_label = [float(row.get("tokens") or row.get("step") or 0) for row in steps], "tokens"
    if loss := column(steps, "loss"):
        smoothed = smooth(loss)
        lines = {"each step": (xs, loss), "smoothed": (xs, smoothed)}
        caption = f"loss: {smoothed[-1]:.3f} nats a token at the end"
        for figure, label in (("validation_loss", "held out"), ("text_loss", "held-out text")):
            if found := points(steps, xs, figure):
                lines[label] = found
                caption += f", {found[1][-1]:.3f} {label}"
        yield caption, line_chart(lines, x_label, "nats a token", faint="each step")
    if speed := column(steps, "tokens_per_second"):
        yield "throughput", line_chart({"tokens/s": (xs, speed)}, x_label, "tokens/s", from_zero=True)
    if rate := column(steps, "lr"):
        yield "learning rate of the matrices", line_chart({"lr": (xs, rate)}, x_label, "learning rate", from_zero=True)
    if norm := column(steps, "gradient_norm"):
        yield "gradient norm", line_chart({"norm": (xs, norm)}, x_label, "norm", from_zero=True)
    if load := _per_layer(steps, xs, "expert_load_max"):
        yield "fullest expert of each MoE layer, as a share of the mean load", line_chart(load, x_label, "× mean")
    if load := _per_layer(steps, xs, "expert_load_min"):
        yield "emptiest expert of each MoE layer", line_chart(load, x_label, "× mean", from_zero=True)
    if entropy := _per_layer(steps, xs, "router_entropy"):
        yield "router entropy", line_chart(entropy, x_label, "nats")


def column(steps: Rows, name: str) -> list[float]:
    """One figure of every step, NaN where a step has none; empty where no step has it."""
    values = [row.get(name) for row in steps]
    if not any(isinstance(value, int | float) for value in values):
        return []
    return [float(value) if isinstance(value, int | float) else math.nan for value in values]


def points(steps: Rows, xs: list[float], name: str) -> Line | None:
    """A figure that only some steps have, without gaps between them."""
    found = [(x, value) for x, value in zip(xs, column(steps, name), strict=False) if math.isfinite(value)]
    return ([x for x, _ in found], [value for _, value in found]) if found else None


def _per_layer(steps: Rows, xs: list[float], name: str) -> dict[str, tuple[list[float], list[float]]]:
    """One line a layer where the steps have lists (one figure a layer), one line where they have numbers."""
    if values := column(steps, name):
        return {name: (xs, values)}
    lists = [row[name] if isinstance(row.get(name), list) else [] for row in steps]
    num_layers = max(map(len, lists), default=0)
    layers = [[row[i] if i < len(row) else math.nan for row in lists] for i in range(num_layers)]
    return {f"layer {i + 1}": (xs, values) for i, values in enumerate(layers)}
