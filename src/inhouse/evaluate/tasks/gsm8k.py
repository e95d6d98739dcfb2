"""GSM8K (Cobbe et al. 2021): sums in words, behind five worked ones of its training file.

Strict: the number behind the first `#### ` is right, as the examples end. Lenient: the last number of the reply is.
"""

import re
from pathlib import Path

from inhouse.evaluate.tasks.records import Record, find_file, read_records, text_of
from inhouse.evaluate.tasks.task import Item, Task

NAMES = ("gsm8k",)
_SHOTS = 5
_MARKED = re.compile(r"####\s*(-?[$0-9.,]+)")
_NUMBER = re.compile(r"-?\$?[0-9][0-9.,]*")


def gsm8k_task(name: str, data: Path, limit: int | None) -> Task:
    """From `data`/gsm8k/{train,test}.jsonl."""

    def read() -> list[Item]:
        train, test = (find_file(data / "gsm8k", f"{split}.jsonl") for split in ("train", "test"))
        solved = [_asked(record, f"{train}, item {i}") for i, record in enumerate(read_records(train)[:_SHOTS])]
        before = "".join(f"{question} {answer}\n\n" for question, answer in solved)
        items = []
        for number, record in enumerate(read_records(test)[:limit]):
            question, answer = _asked(record, f"{test}, item {number}")
            items.append(Item(record, before + question, answer=_plain(answer.rsplit("####", 1)[-1])))
        return items

    return Task(name, "generation", read, max_tokens=400, stop=("Question:",), score=score)


def _asked(record: Record, where: str) -> tuple[str, str]:
    return f"Question: {text_of(record, 'question', where)}\nAnswer:", text_of(record, "answer", where)


def score(item: Item, reply: str) -> dict[str, float]:
    marked, numbers = _MARKED.search(reply), _NUMBER.findall(reply)
    return {
        "exact_match": float(marked is not None and _plain(marked[1]) == item.answer),
        "exact_match_lenient": float(bool(numbers) and _plain(numbers[-1]) == item.answer),
        "unparsable": float(marked is None),
    }


def _plain(number: str) -> str:
    """Without what people write around digits."""
    return number.strip().replace(",", "").replace("$", "").rstrip(".")
