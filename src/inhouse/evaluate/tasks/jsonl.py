"""A task of any .jsonl file: its kind is told by the fields that its records have, or named.

| kind | fields (and other names for them) |
| --- | --- |
| log_likelihood | text; or context, continuation |
| multiple_choice | context (query, question), choices, gold (right, answer); or context_options, continuation, gold |
| minimal_pairs | sentence_good, sentence_bad (BLiMP's) |
| generation | prompt (question), answer |
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from inhouse.evaluate.tasks.records import Record, answer_of, number_of, read_records, text_of, texts_of
from inhouse.evaluate.tasks.task import Item, Judged, Kind, Task

NAMES = {
    "context": ("context", "query", "question"),
    "choices": ("choices",),
    "gold": ("gold", "right", "answer", "label"),
    "contexts": ("context_options",),
    "continuation": ("continuation",),
    "text": ("text",),
    "good": ("sentence_good",),
    "bad": ("sentence_bad",),
    "prompt": ("prompt", "question"),
    "answer": ("answer",),
    "cluster": ("cluster",),
}


@dataclass(frozen=True)
class Shape:
    """How records become items: the `fields`' names in the file where they are others, what stands between a context
    and a choice, how many solved items of the same file stand before each, and what between them; `strips`: white space
    around the texts of a record falls away."""

    kind: Kind | None = None
    fields: Mapping[str, str] | None = None
    delimiter: str = " "
    shots: int = 0
    between: str = "\n\n"
    strips: bool = False


def jsonl_task(name: str, path: Path, shape: Shape, limit: int | None = None, chance: float | None = None) -> Task:
    """The task of a file's records, of the first `limit` where one is given. Raises ValueError for one without any."""
    records = read_records(path)
    if not records:
        raise ValueError(f"{path}: no items in it; a task needs at least one")
    kind = shape.kind or _kind_of(records[0], shape.fields or {}, f"{path}, item 0")

    def read() -> Sequence[Item]:
        items = [
            _item(kind, record, shape, f"{path}, item {number}", f"{name}/{number}")
            for number, record in enumerate(records)
        ]
        alike = defaultdict[Hashable, list[int]](list)
        for number, item in enumerate(items):
            alike[_question(item)].append(number)
        return [_with_shots(items, number, alike, name, shape) for number in range(len(items))[:limit]]

    return Task(name, kind, read, score=_exact_match, chance=chance)


def _kind_of(record: Record, fields: Mapping[str, str], where: str) -> Kind:
    has = {key for key in NAMES if _name(record, fields, key) in record}
    if {"good", "bad"} <= has:
        return "minimal_pairs"
    if "choices" in has or "contexts" in has:
        return "multiple_choice"
    if "text" in has or {"context", "continuation"} <= has:
        return "log_likelihood"
    if {"prompt", "answer"} <= has:
        return "generation"
    raise ValueError(
        f"{where}: its fields ({', '.join(sorted(record))}) fit no kind of task; there must be text, or context and "
        "continuation, or choices and gold, or sentence_good and sentence_bad, or prompt and answer"
    )


def _name(record: Record, fields: Mapping[str, str], key: str) -> str:
    """What a field is called in this file."""
    if key in fields:
        return fields[key]
    return next((name for name in NAMES[key] if name in record), NAMES[key][0])


def _item(kind: Kind, record: Record, shape: Shape, where: str, name: str) -> Item:
    def field(key: str) -> str:
        return _name(record, shape.fields or {}, key)

    cluster = field("cluster")
    shared: dict[str, Any] = {
        "document": record,
        "cluster": str(record[cluster]) if record.get(cluster) is not None else None,
    }
    if shape.strips:
        record = {key: value.strip() if isinstance(value, str) else value for key, value in record.items()}
    if kind == "minimal_pairs":
        return Item(**shared, choices=tuple(text_of(record, field(key), where) for key in ("good", "bad")), gold=0)
    if kind == "generation":
        answer = answer_of(record, field("answer"), where)
        prompt = text_of(record, field("prompt"), where)
        return Item(**shared, context=prompt, answer=answer, delimiter=shape.delimiter)
    if kind == "log_likelihood":
        if field("text") in record:
            return Item(**shared, choices=(text_of(record, field("text"), where),))
        context, text = (text_of(record, field(key), where) for key in ("context", "continuation"))
        return Item(**shared, context=context, choices=(text,), delimiter=shape.delimiter)
    return _choice_item(record, shared, field, shape.delimiter, where)


def _choice_item(record: Record, shared: dict[str, Any], field: Any, delimiter: str, where: str) -> Item:
    if field("contexts") in record:
        contexts = texts_of(record, field("contexts"), where)
        gold = number_of(record, field("gold"), len(contexts), where)
        text = text_of(record, field("continuation"), where)
        # sentences that differ in one word often come as twins
        twins = shared["cluster"] or digest_of_text("\n".join(sorted(contexts)))
        shared = shared | {"cluster": twins}
        return Item(**shared, contexts=contexts, choices=(text,) * len(contexts), gold=gold, delimiter=delimiter)
    context, choices = text_of(record, field("context"), where), texts_of(record, field("choices"), where)
    gold = number_of(record, field("gold"), len(choices), where)
    if shared["cluster"] is None and context.startswith("Passage: "):  # several questions are asked on one
        shared = shared | {"cluster": digest_of_text(context.partition("\n")[0])}
    return Item(**shared, context=context, choices=choices, gold=gold, delimiter=delimiter)


def digest_of_text(text: str) -> str:
    """A short name for what items share."""
    return sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _with_shots(
    items: Sequence[Item], number: int, alike: Mapping[Hashable, list[int]], name: str, shape: Shape
) -> Item:
    """The item behind so many solved ones, drawn by its number alone: the same in every run. Those that ask the same
    (`alike`, by their numbers) are not among them: they would give the answer away."""
    item = items[number]
    if not shape.shots:
        return item
    own = alike[_question(item)]
    num_others = len(items) - len(own)
    drawn = random.Random(f"{name}/{number}").sample(range(num_others), min(shape.shots, num_others))
    before = "".join(_solved(items[_passing_over(own, other)]) + shape.between for other in drawn)
    contexts = tuple(before + context for context in item.contexts)
    return replace(item, context=before + item.context, contexts=contexts)


def _question(item: Item) -> Hashable:
    """What is asked, in whatever order its choices stand."""
    return item.context, tuple(sorted(item.contexts)), tuple(sorted(item.choices))


def _passing_over(own: Sequence[int], place: int) -> int:
    """The number of what stands at `place` when `own`, in order, are taken out."""
    for number in own:
        place += place >= number
    return place


def _solved(item: Item) -> str:
    if item.gold is not None or item.choices:
        context, text = item.pairs[item.gold or 0]
        return context + text
    return f"{item.context}{item.delimiter}{item.answer}"


def _exact_match(item: Item, reply: str) -> Judged:
    """Strict: the whole reply is the answer. Lenient: its last line that is not empty ends with it, as a word or number
    of its own (14 is not 4, nor is -4)."""
    said, answer = reply.strip(), item.answer or ""
    last, wanted = said.rsplit("\n", 1)[-1].strip().rstrip("."), answer.rstrip(".")
    is_in = bool(wanted) and last.endswith(wanted) and not _is_cut(last[: -len(wanted)], wanted)
    return Judged({"exact_match": float(said == answer), "exact_match_lenient": float(said == answer or is_in)})


def _is_cut(before: str, wanted: str) -> bool:
    """Whether `wanted` is but the end of a word or a number."""
    if wanted[0].isdigit() and before.endswith(("-", "\u2212", ".", ",", "/")):
        return True
    return wanted[0].isascii() and wanted[0].isalnum() and before[-1:].isalnum()
