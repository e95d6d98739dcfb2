"""A finished run made by code, as its stages leave it: records, counts, metrics, scores and samples; no model."""

import json
from pathlib import Path
from typing import Any

from inhouse.common.files import digests, read_json, write_json
from inhouse.common.lineage import RECORD, STAGES, result_digest

READS = {
    "data": (),
    "tokenizer": ("data",),
    "pretrain": ("tokenizer",),
    "sft": ("data", "tokenizer", "pretrain"),
    "evaluate": ("data", "pretrain", "sft"),
    "export": ("data", "sft", "evaluate"),
}
SECONDS = {"data": 2.0, "tokenizer": 5.0, "pretrain": 120.0, "sft": 60.0, "evaluate": 10.0, "export": 3.0}
SPENT = {
    "stepping": 90.0, "recomputed": 0.0, "checkpoint stall": 0.0, "start-up": 0.0, "data wait": 0.0, "slow": 0.0,
    "idle": 30.0, "validation": 0.0,
}  # fmt: skip
CODE = {"version": "0.1.0", "source": "sha256:code", "commit": "abc123", "modified": True}
HOST = {
    "cpu": "A processor", "cores": 2, "memory_bytes": 8 << 30, "gpus": [], "system": "Linux x86_64",
    "python": "3.12.1", "torch": "2.13.0",
}  # fmt: skip
LABELS = {"name": "mine", "path": "/texts", "licence": "CC0-1.0"}
COUNTS = {
    "files": 12_345, "documents": 9_876, "encodings": {"cp1252": 3}, "separators": {"</s>": 1_234},
    "skipped": {"binary": {"count": 2, "names": ["a.png", "b.png"]}},
}  # fmt: skip
SOURCE = LABELS | COUNTS
METRICS = [
    {
        "step": step, "tokens": 1_000_000 * step, "loss": 8.0 - step, "lr": 0.01 * step, "gradient_norm": 0.5 * step,
        "tokens_per_second": 100.0 * step, "expert_load_max": [2.0, 3.0], "expert_load_min": [0.2, 0.3],
        "router_entropy": [1.1, 1.2],
    }
    for step in (1, 2, 3)
]  # fmt: skip
SCORES = {
    "base/bits_per_byte": {"value": 1.2345, "standard_error": 0.0214, "count": 1_234, "how": "whole documents"},
    "model/exact_match/rhymes": {"value": 0.75, "standard_error": 0.031, "count": 200, "how": "greedy"},
    "model/exact_match/addition": {"value": 0.5, "standard_error": None, "count": 100, "how": "greedy"},
    "model/ends_by_itself": {"value": 0.994, "standard_error": 0.003, "count": 700, "how": "within the limit"},
}
SAMPLES = [
    {"kind": "rhymes", "prompt": f"Which word rhymes? ({n})\nOne line more.", "expected": "<hat>",
     "reply": f"reply <{n}>", "is_right": is_right}
    for n, is_right in enumerate((True, False, True))
] + [{"kind": "library", "prompt": "What does it do?", "reply": "It reads.", "is_right": None}]  # fmt: skip


def fabricate(run: Path, until: str = "export") -> Path:
    """The stages of a run up to `until`, and the same folder back."""
    ledger = {"attempt": 1, "furthest": 3, "boot": "", "monotonic": 0, "time": 0}
    files: dict[str, dict[str, Any]] = {
        "data": {"counts.json": {"sources": [COUNTS], "total": {"documents": 9_876}}},
        "tokenizer": {"tokenizer.json": {"vocabulary": 300}},
        "pretrain": {
            "metrics.jsonl": METRICS,
            "untrained.json": {"left_out": [4, [7, 9]], "rewound": []},
            "goodput.jsonl": [ledger | {"seconds": SPENT}],
        },
        "sft": {"metrics.jsonl": [{"step": 1, "loss": 2.5}]},
        "evaluate": {"scores.json": SCORES, "samples.jsonl": SAMPLES},
        "export": {"huggingface/config.json": {"model_type": "qwen3"}},
    }
    for name in STAGES[: STAGES.index(until) + 1]:
        for file, content in files[name].items():
            path = run / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = content if path.suffix == ".jsonl" else [content]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        finish(run, name)
    return run


def finish(run: Path, name: str) -> None:
    """Write the record of a stage as its files stand now."""
    stages = {read: result_digest(read_json(run / read / RECORD)) for read in READS[name]}
    (run / name / RECORD).unlink(missing_ok=True)
    untrained = run / name / "untrained.json"
    record = {
        "stage": name,
        "settings": {name: {"setting of": name}},
        "inputs": {"stages": stages, **({"sources": ["sha256:source"]} if name == "data" else {})},
        "attempts": [{"started": "2026-11-25T03:04:05+00:00", "code": CODE, "host": HOST}],
        "ended": "2026-11-25T04:05:06+00:00",
        "seconds": SECONDS[name],
        "peak_memory_bytes": 3 << 29,
        **({"labels": {"sources": [LABELS]}} if name == "data" else {}),
        **({"untrained": read_json(untrained)} if untrained.is_file() else {}),
        **({"unread": ["checkpoints/*"]} if name == "pretrain" else {}),
        "outputs": digests(run / name),
    }
    write_json(run / name / RECORD, record)


def change_record(run: Path, name: str, **fields: Any) -> None:
    write_json(run / name / RECORD, read_json(run / name / RECORD) | fields)
