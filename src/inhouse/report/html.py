"""`report.html` of a run, whole in one file, and the lines that `inhouse make` ends with."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import read_json, write_atomic
from inhouse.common.lineage import Record, lineage
from inhouse.common.progress import duration
from inhouse.report.plots import line_chart, share_bar, smooth
from inhouse.report.trace import render
from inhouse.resilience.goodput import describe, goodput, read_split

SAMPLES_A_KIND = 2
_TILES = {
    "base/bits_per_byte": "held-out bits per byte, base",
    "xz/bits_per_byte": "the same, xz -9e alone",
    "xz_after_training_files/bits_per_byte": "the same, xz -9e after the training text",
    "model/exact_match/addition": "additions right",
    "model/exact_match/subtraction": "subtractions right",
    "model/ends_by_itself": "answers that end by themselves",
}
Rows = list[dict[str, Any]]


class Score(NamedTuple):
    """A score, ready to print."""

    name: str
    value: str
    error: str
    num: str
    how: str


def write_report(run: Path) -> None:
    """Write `report.html` from whatever stages of the run are finished."""
    from jinja2 import Environment, PackageLoader

    facts = lineage(run)
    templates = Environment(loader=PackageLoader("inhouse.report", "."), autoescape=True)
    page = templates.get_template("report.html.jinja").render(
        name=facts["run"],
        lead=_lead(facts["stages"]),
        tiles=_tiles(run),
        chart_groups=[(title, charts) for title, charts in _chart_groups(run) if charts],
        scores=read_scores(run),
        samples=_samples(run),
        sources=_sources(facts["sources"]),
        stages=[_stage_row(name, record) for name, record in facts["stages"].items()],
        trace="\n".join(render(facts)),
    )
    write_atomic(run / "report.html", page)


def summary(run: Path) -> str:
    """What `inhouse make` ends with: stages and their times, scores, where things are, and what to do next."""
    records = lineage(run)["stages"]
    lines = [f"{name:<10} {duration(record['seconds']):>12}" for name, record in records.items()]
    lines.append(f"{'together':<10} {duration(sum(record['seconds'] for record in records.values())):>12}")
    splits = {name: split for name in records if (split := read_split(run / name))}
    lines += [f"goodput    {name}: {describe(split)}" for name, split in splits.items()]
    if scores := read_scores(run):
        lines += ["", *_aligned(scores)]
    lines += ["", f"report     {run / 'report.html'}"]
    if (run / "export").is_dir():
        lines += [f"export     {path}" for path in sorted((run / "export").iterdir()) if path.name != "stage.json"]
    if (run / "sft").is_dir():
        lines += ["", f"talk to it: inhouse chat {run}", f"serve it:   inhouse serve {run}"]
    return "\n".join(lines)


def score_lines(scores: dict[str, dict[str, Any]]) -> list[str]:
    """Scores as aligned lines of text."""
    return list(_aligned([_score(name, score) for name, score in scores.items()]))


def read_scores(run: Path) -> list[Score]:
    """The scores of a run's evaluate stage; none where it has not run."""
    path = run / "evaluate" / "scores.json"
    return [_score(name, score) for name, score in read_json(path).items()] if path.is_file() else []


def _score(name: str, score: dict[str, Any]) -> Score:
    error = score.get("standard_error")
    is_share = "bits_per_byte" not in name
    show = (lambda x: f"{100 * x:.1f} %") if is_share else (lambda x: f"{x:.4f}")
    return Score(
        name, show(score["value"]), show(error) if error is not None else "", f"{score['count']:,}", score["how"]
    )


def _aligned(scores: list[Score]) -> Iterator[str]:
    width = max(len(score.name) for score in scores)
    for score in scores:
        error = f"± {score.error}" if score.error else ""
        yield f"{score.name:<{width}} {score.value:>9} {error:<10} of {score.num:>7}  {score.how}"


def _lead(records: dict[str, Record]) -> str:
    last = list(records.values())[-1]
    host = last["attempts"][-1]["host"]
    machine = ", ".join(host["gpus"]) or f"{host['cpu']}, {host['cores']} cores"
    spent = duration(sum(record["seconds"] for record in records.values()))
    return f"{', '.join(records)} in {spent} on {machine}; finished {last['ended'].replace('T', ' ')[:16]} UTC"


def _tiles(run: Path) -> list[tuple[str, str]]:
    """The few figures that say what this model is."""
    tiles = []
    if (config := run / "pretrain" / "config.json").is_file():
        from inhouse.model.huggingface import config_from_hf

        total, active = config_from_hf(read_json(config)).count_parameters()
        tiles.append((_short(total), f"parameters, {_short(active)} active" if active != total else "parameters"))
    if steps := _read_metrics(run / "pretrain"):
        tokens = steps[-1].get("tokens")
        tiles += [(_short(tokens), "tokens of pretraining")] if tokens else []
    scores = {score.name: score.value for score in read_scores(run)}
    return tiles + [(scores[name], label) for name, label in _TILES.items() if name in scores]


def _chart_groups(run: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for stage, title in (("pretrain", "Pretraining"), ("sft", "Supervised fine-tuning")):
        if steps := _read_metrics(run / stage):
            yield title, [*_charts(steps), *_time_chart(run / stage)]


def _charts(steps: Rows) -> Iterator[tuple[str, str]]:
    """(caption, SVG) of everything that the metrics hold; a figure that is not in them is left out."""
    xs, x_label = [float(row.get("tokens") or row.get("step") or 0) for row in steps], "tokens"
    if loss := _column(steps, "loss"):
        smoothed = smooth(loss)
        lines = {"each step": (xs, loss), "smoothed": (xs, smoothed)}
        yield (
            f"loss: {smoothed[-1]:.3f} nats a token at the end",
            line_chart(lines, x_label, "nats a token", faint="each step"),
        )
    if speed := _column(steps, "tokens_per_second"):
        yield "throughput", line_chart({"tokens/s": (xs, speed)}, x_label, "tokens/s", from_zero=True)
    if rate := _column(steps, "lr"):
        yield "learning rate of the matrices", line_chart({"lr": (xs, rate)}, x_label, "learning rate", from_zero=True)
    if norm := _column(steps, "gradient_norm"):
        yield "gradient norm", line_chart({"norm": (xs, norm)}, x_label, "norm", from_zero=True)
    if load := _per_layer(steps, xs, "expert_load_max"):
        yield "fullest expert of each MoE layer, as a share of the mean load", line_chart(load, x_label, "× mean")
    if load := _per_layer(steps, xs, "expert_load_min"):
        yield "emptiest expert of each MoE layer", line_chart(load, x_label, "× mean", from_zero=True)
    if entropy := _per_layer(steps, xs, "router_entropy"):
        yield "router entropy", line_chart(entropy, x_label, "nats")


def _time_chart(stage: Path) -> Iterator[tuple[str, str]]:
    if split := read_split(stage):
        yield f"where the time went: goodput {100 * goodput(split):.1f} %", share_bar(split)


def _column(steps: Rows, name: str) -> list[float]:
    """One figure of every step, NaN where a step has none; empty where no step has it."""
    values = [row.get(name) for row in steps]
    if not any(isinstance(value, int | float) for value in values):
        return []
    return [float(value) if isinstance(value, int | float) else math.nan for value in values]


def _per_layer(steps: Rows, xs: list[float], name: str) -> dict[str, tuple[list[float], list[float]]]:
    """One line a layer where the steps have lists (one figure a layer), one line where they have numbers."""
    if column := _column(steps, name):
        return {name: (xs, column)}
    lists = [row[name] if isinstance(row.get(name), list) else [] for row in steps]
    num_layers = max(map(len, lists), default=0)
    layers = [[row[i] if i < len(row) else math.nan for row in lists] for i in range(num_layers)]
    return {f"layer {i + 1}": (xs, values) for i, values in enumerate(layers)}


def _read_metrics(stage: Path) -> Rows:
    path = stage / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _samples(run: Path) -> list[dict[str, str]]:
    """A few answers of each kind."""
    path = run / "evaluate" / "samples.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    kinds: dict[str, int] = {}
    samples = []
    for row in map(json.loads, lines):
        kind = row.get("kind", "sample")
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= SAMPLES_A_KIND:
            mark = {True: "right", False: f"wrong; right is {row.get('expected')}"}.get(
                row.get("is_right"), "not scored"
            )
            prompt = str(row.get("prompt", ""))
            title = f"{kind}: {prompt.splitlines()[0][:80] if prompt else ''}"
            samples.append({"title": title, "mark": mark, "prompt": prompt, "reply": str(row.get("reply", ""))})
    return samples


def _sources(counts: dict[str, Any] | None) -> dict[str, Any] | None:
    """The data stage's counts as a table: one row a source, one column a count."""
    rows = [_flat(row) for row in (counts or {}).get("sources", [])]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not rows:
        return None
    return {
        "columns": [{"name": c.replace("_", " "), "is_number": isinstance(rows[0].get(c, 0), int)} for c in columns],
        "rows": [[_cell(row.get(column, 0)) for column in columns] for row in rows],
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A source's counts with what was skipped beside the rest, one count a reason."""
    skipped = {reason: found["count"] for reason, found in row.get("skipped", {}).items()}
    return {key: value for key, value in row.items() if key != "skipped"} | skipped


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _stage_row(name: str, record: Record) -> dict[str, Any]:
    return {
        "name": name,
        "started": record["attempts"][0]["started"].replace("T", " ")[:19],
        "took": duration(record["seconds"]),
        "memory": f"{record['peak_memory_bytes'] / 2**30:.2f} GiB",
        "inputs": [(source, value[:19] + "…") for source, value in record["inputs"].items()],
    }


def _short(number: float) -> str:
    """12.3 M and the like."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:g}"
