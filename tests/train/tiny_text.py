"""A tokenizer stage's folder and a pretraining run on it, small enough for a second."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inhouse.data.documents import Document
from inhouse.data.shards import ShardWriter, finish_folder
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.sizes import ModelSettings
from inhouse.train.settings import PretrainSettings
from inhouse.train.stage import pretrain

VOCABULARY, BATCH_TOKENS = 265, 128
MODEL = ModelSettings(architecture="qwen3", size="tiny", hidden_size=32, num_heads=2, context=32)


def write_shards(folder: Path, documents: Iterable[Sequence[int]], document_start: int = 0) -> Path:
    """A folder of shards with these ids."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, "part", "<u2", 1000)
    for ids in documents:
        writer.add(Document("", 0, "p"), ids, document_start)
    writer.close()
    finish_folder(folder, writer.shards)
    return folder


def text(number: int) -> str:
    """A document that has something to learn."""
    return "".join(f"{number} and {i} is {number + i}.\n" for i in range(number % 7 + 20))


def tokenizer_stage(folder: Path, held_out: Sequence[int] = (1000, 2000)) -> Path:
    """Tokenizer and shards, as that stage leaves them; `held_out` are the numbers of the held-out documents."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer.train([text(i) for i in range(60)] * 2, VOCABULARY)
    tokenizer.save(folder)
    for split, numbers in (("train", range(60)), ("heldout", held_out)):
        if numbers:
            ids = [tokenizer.encode(text(number)) for number in numbers]
            write_shards(folder / "shards" / split, ids, tokenizer.end_of_document)
    return folder


def settings(steps: int, **changes: Any) -> PretrainSettings:
    """Of so many steps."""
    values = {"warmup_steps": 2, "decay_fraction": 0.5, "checkpoint_every": 6, "log_every": 1, "validate_every": 4}
    values |= {"batch_tokens": BATCH_TOKENS, "sequence_length": 16, "tokens": steps * BATCH_TOKENS}
    return PretrainSettings(**values | {"precision": "fp32", "compile": False, "device": "cpu"} | changes)


def trained(stage: Path, output: Path, steps: int, **changes: Any) -> dict[str, Any]:
    """Pretrain on a tokenizer stage's folder; the weights, and what was logged without its times."""
    pretrain(settings(steps, **changes), MODEL, stage, output, seed=3)
    return {"weights": (output / "model.safetensors").read_bytes(), "log": log(output)}


def log(output: Path) -> Any:
    """Every line of the metrics, without what two equal runs need not share."""
    timed = ("tokens_per_second", "slow_ranks")
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]
