"""`report.html` of a run: one page, whole in one file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inhouse.common.files import read_json, write_atomic
from inhouse.common.lineage import RL, Record, input_digests, lineage, stale
from inhouse.common.page import render_page
from inhouse.common.progress import duration, short_count
from inhouse.report.charts import read_metrics, stage_charts
from inhouse.report.climb import climb_answers, climb_charts
from inhouse.report.passes import passes_made
from inhouse.report.scores import bits_lost, read_scores, score_rows
from inhouse.report.trace import render

SAMPLES_A_KIND = 2
KINDS_AS_TILES = 2
TRAINED = {
    "pretrain": "Pretraining",
    "midtrain": "Mid-training",
    "sft": "Supervised fine-tuning",
}


def write_report(run: Path) -> None:
    """Write `report.html` from whatever stages of the run are finished."""
    facts, outdated = lineage(run), stale(run)
    is_current = "evaluate" not in outdated  # scores of another model are no scores of this one
    measured = read_scores(run) if is_current else {}
    scores = score_rows(measured)
    charts = [(title, stage_charts(run / stage)) for stage, title in TRAINED.items()]
    charts.append(("Reinforcement learning", climb_charts(run / RL)))
    page = render_page(
        "inhouse.report",
        "report.html.jinja",
        name=facts["run"],
        lead=_lead(facts["stages"]),
        tiles=list(_tiles(run, {row.name: row.value for row in scores}, bits_lost(measured))),
        chart_groups=[group for group in charts if group[1]],
        scores=scores,
        samples=_samples(run) if is_current else [],
        answers=climb_answers(run / RL),
        outdated=outdated,
        sources=_sources(facts["sources"]),
        stages=[_stage_row(name, record) for name, record in facts["stages"].items()],
        trace="\n".join(render(facts)),
    )
    write_atomic(run / "report.html", page)


def _lead(records: dict[str, Record]) -> str:
    last = list(records.values())[-1]
    host = last["attempts"][-1]["host"]
    machine = ", ".join(host["gpus"]) or f"{host['cpu']}, {host['cores']} cores"
    spent = duration(sum(record["seconds"] for record in records.values()))
    return f"{', '.join(records)} in {spent} on {machine}; finished {last['ended'].replace('T', ' ')[:16]} UTC"


def _tiles(run: Path, scores: dict[str, str], lost: float | None) -> Iterator[tuple[str, str]]:
    """The few figures that say what this model is; those that the run does not have are left out."""
    if (config := run / "pretrain" / "config.json").is_file():
        from inhouse.model.huggingface import config_from_hf  # here, because torch takes seconds to import

        total, active = config_from_hf(read_json(config)).count_parameters()
        yield short_count(total), f"parameters, {short_count(active)} active" if active != total else "parameters"
    if (steps := read_metrics(run / "pretrain")) and (tokens := steps[-1].get("tokens")):
        yield short_count(tokens), "tokens of pretraining"
    if made := passes_made(run):
        yield f"{made.passes:,.1f}", f"passes over the text, {short_count(made.text_tokens)} tokens"
    kinds = [name.rpartition("/")[2] for name in scores if name.startswith("model/exact_match/")]
    labels = {
        "base/bits_per_byte": "held-out bits per byte, base",
        "model/bits_per_byte": "the same, fine-tuned" + (f" ({lost:+.3f})" if lost is not None else ""),
        "xz/bits_per_byte": "the same, xz -9e alone",
        "xz_after_training_files/bits_per_byte": "the same, xz -9e after the training text",
        **{f"model/exact_match/{kind}": f"{kind.removesuffix('s')}s right" for kind in kinds[:KINDS_AS_TILES]},
        "model/own/bits_per_byte": "bits per byte of own answers that were held out",
        "model/ends_by_itself": "answers that end by themselves",
    }
    yield from ((scores[name], label) for name, label in labels.items() if name in scores)


def _samples(run: Path) -> list[dict[str, str]]:
    """A few answers of each kind."""
    path = run / "evaluate" / "samples.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    kinds: dict[str, int] = {}
    samples = []
    for row in map(json.loads, lines):
        kind = row.get("kind", "sample")
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= SAMPLES_A_KIND:
            marks = {True: "right", False: f"wrong; right is {row.get('expected')}"}
            is_expected = row.get("is_right") is None and row.get("expected")
            mark = f"expected: {row['expected']}" if is_expected else marks.get(row.get("is_right"), "not scored")
            prompt = str(row.get("prompt", ""))
            title = f"{kind}: {prompt.splitlines()[0][:80] if prompt else ''}"
            samples.append({"title": title, "mark": mark, "prompt": prompt, "reply": str(row.get("reply", ""))})
    return samples


def _sources(counts: dict[str, Any] | None) -> dict[str, Any] | None:
    """The data stage's counts as a table: one row a source, one column a count, what was skipped beside the rest."""
    rows = [dict(_flat(row)) for row in (counts or {}).get("sources", [])]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not rows:
        return None
    return {
        "columns": [{"name": c.replace("_", " "), "is_number": isinstance(rows[0].get(c, 0), int)} for c in columns],
        "rows": [[f"{x:,}" if isinstance(x := row.get(c, 0), int) else str(x) for c in columns] for row in rows],
    }


def _flat(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from ((name, found["count"] if isinstance(found, dict) else found) for name, found in value.items())
        else:
            yield key, value


def _stage_row(name: str, record: Record) -> dict[str, Any]:
    return {
        "name": name,
        "started": record["attempts"][0]["started"].replace("T", " ")[:19],
        "took": duration(record["seconds"]),
        "memory": f"{peak / 2**30:.2f} GiB" if (peak := record["peak_memory_bytes"]) else "n/a",
        "inputs": [(name, value[:19] + "…") for name, value in input_digests(record)],
    }
