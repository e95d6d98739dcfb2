"""README.md of an exported folder: what the model is, what it was made of, how good it is, how to run it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inhouse.common.lineage import Record, input_digests
from inhouse.common.progress import short_count
from inhouse.evaluate.exports import model_index
from inhouse.evaluate.score import Score
from inhouse.model.config import ModelConfig
from inhouse.model.huggingface import CLASSES

HEAD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [inhouse]
{index}---

# {name}

A language model of {total} parameters{active}, {origin} with inhouse: {known}, setting
and version of code behind it is recorded below and in `lineage.json`.

## Run it

With transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForCausalLM.from_pretrained(".")
prompt = tokenizer.apply_chat_template([{{"role": "user", "content": "Hello"}}], add_generation_prompt=True,
                                       return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=200)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```

With vLLM: `vllm serve .` — with inhouse: `inhouse chat .` or `inhouse serve .` — with llama.cpp, from a GGUF file
beside this folder: `llama-cli -m FILE.gguf`.
"""


GGUF_HEAD = """\

## GGUF files

For llama.cpp and what is built on it; they lie beside this folder. "Bits per byte lost" are those that the weights
need which the file gives back, above those of the weights that it was made from, on the same held-out text: {how}.
"Weights" is what the file holds: rows that a type's blocks do not divide are kept as another.
"""


def model_card(
    name: str,
    config: ModelConfig,
    lineage: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Mapping[str, Any]],
) -> str:
    """The card as Markdown.

    `lineage` is what `inhouse.common.lineage` gives, `scores` the evaluate stage's file, `files` what
    `inhouse.export.loss` measures.
    """
    count = config.count_parameters()
    active = f" ({short_count(count.active)} active for a token)" if config.is_moe else ""
    taught = list(_conversations(lineage.get("conversations", [])))
    parts = [
        HEAD.format(
            name=name, total=short_count(count.total), active=active, index=_index(name, scores), **_origin(lineage)
        ),
        "\n## Architecture\n",
        *_table(("what", "value"), _architecture(config)),
        "\n## Training text\n",
        *_table(("source", "licence", "documents", "bytes", "held out"), _sources(lineage.get("sources") or {})),
        *(["\n## Conversations\n", *_table(("file", "licence", "conversations"), taught)] if taught else []),
        "\n## Scores\n",
        *_table(("score", "value", "standard error", "count", "how"), _scores(scores)),
        *gguf_chapter(files),
        "\n## Lineage\n",
        "Digests are SHA-256 over the digests of a stage's outputs; `lineage.json` has every file.\n",
        *_table(("stage", "started", "code", "made from"), _stages(lineage["stages"])),
    ]
    return "\n".join(parts) + "\n"


def _index(name: str, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The model's own scores, not those of its base or of a compressor, for the card's head."""
    own = {}
    for key, score in scores.items():
        of, *parts = key.split("/")
        if of == "model":
            is_bits = parts[-1] == "bits_per_byte"  # its kind stands before it, that of other metrics behind them
            metric, kind = (parts[-1], parts[0]) if is_bits else (parts[0], parts[-1])
            own[f"{'held-out' if kind == metric else kind}/{metric}"] = Score(**score)
    return model_index(name, own) if own else ""


def _origin(lineage: Mapping[str, Any]) -> dict[str, str]:
    """Where its weights come from, and what is known of that."""
    base = lineage.get("base")
    if not base:
        return {"origin": "trained from scratch", "known": "every text, licence"}
    is_pretrained = lineage["stages"]["pretrain"]["settings"]["pretrain"].get("tokens") is not None
    named = " and ".join(f"{each['name']} (licence: {each['licence']})" for each in base)
    return {
        "origin": f"{'trained further and ' * is_pretrained}fine-tuned from {named}",
        "known": "what that learned from is not known here; every other text, licence",
    }


def _architecture(config: ModelConfig) -> Iterator[tuple[str, ...]]:
    yield "class", f"`{CLASSES[config.architecture]}`"
    yield "layers, width", f"{config.num_layers}, {config.hidden_size}"
    yield "heads", f"{config.num_heads} of {config.head_dim}, {config.num_kv_heads} key-value heads"
    if config.is_moe:
        yield (
            "experts",
            f"{config.num_experts} of width {config.moe_intermediate_size}, {config.num_experts_per_token} a token, "
            f"{config.num_shared_experts} shared; the first {config.num_dense_layers} layers dense",
        )
    if not config.is_moe or config.num_dense_layers:
        yield "feed-forward width", str(config.intermediate_size)
    if config.num_nextn_predict_layers:
        yield "multi-token prediction", "one layer, behind the others, for drafts of the token after the next"
    if config.sliding_window:
        window, every = config.sliding_window, config.sliding_window_pattern
        yield "attention", f"window of {window} tokens; every {every}th layer sees all, without positions"
    yield "vocabulary, context", f"{config.vocab_size} tokens, {config.max_position} tokens"


def _sources(counts: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for source in counts.get("sources", []):
        fields = (source.get(key, "") for key in ("documents", "train_bytes", "heldout_bytes"))
        numbers = (f"{field:,}" if isinstance(field, int) else str(field) for field in fields)
        yield source["name"], source.get("licence", "unknown"), *numbers


def _conversations(files: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for file in files:
        yield Path(file["path"]).name, file.get("licence", "unknown"), str(file.get("conversations", ""))


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for name, score in scores.items():
        error = score["standard_error"]
        yield (
            name,
            f"{score['value']:.4g}",
            "n/a" if error is None else f"{error:.2g}",
            str(score["count"]),
            score["how"],
        )


def gguf_chapter(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The chapter on GGUF files; nothing where there are none."""
    if not files:
        return []
    (how,) = {file["loss"]["how"] for file in files.values()}
    head = ("file", "bytes", "bits per byte lost", "standard error", "weights")
    return [GGUF_HEAD.format(how=how), *_table(head, (_gguf_row(name, file) for name, file in files.items()))]


def _gguf_row(name: str, file: Mapping[str, Any]) -> tuple[str, ...]:
    lost, error = file["loss"]["value"], file["loss"]["standard_error"]
    total = sum(file["weights"].values())
    held = ", ".join(f"{kind} {count / total:.1%}" for kind, count in file["weights"].items())
    shown = f"{lost:+.5f}" if lost else "0"
    return name, f"{file['bytes']:,}", shown, "n/a" if error is None else f"{error:.5f}", held


def _stages(records: Mapping[str, Record]) -> Iterator[tuple[str, ...]]:
    for stage, record in records.items():
        attempt = record["attempts"][-1]
        made_from = "; ".join(f"{name} `{_digest(value)}`" for name, value in input_digests(record))
        yield (
            stage,
            attempt["started"],
            f"{attempt['code']['version']} `{_digest(attempt['code']['source'])}`",
            made_from,
        )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    filled = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    if not filled:
        return ["Not recorded."]
    return [f"| {' | '.join(row)} |" for row in (list(head), ["---"] * len(head), *filled)]


def _digest(value: str) -> str:
    return str(value).removeprefix("sha256:")[:12]
