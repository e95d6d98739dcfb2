"""GSM8K (Cobbe et al. 2021): sums in words, behind five worked ones of its training file."""

from pathlib import Path

from inhouse.environments.verifiers.gsm8k import GSM8K
from inhouse.evaluate.tasks.records import find_file, read_records, text_of
from inhouse.evaluate.tasks.task import Item, Task
from inhouse.evaluate.tasks.verified import problem_of, score_by

NAMES = ("gsm8k",)
_SHOTS = 5


def gsm8k_task(name: str, data: Path, limit: int | None) -> Task:
    """From `data`/gsm8k/{train,test}.jsonl."""

    def read() -> list[Item]:
        train, test = (find_file(data / "gsm8k", f"{split}.jsonl") for split in ("train", "test"))
        before = ""
        for number, record in enumerate(read_records(train)[:_SHOTS]):
            question, answer = (text_of(record, key, f"{train}, item {number}") for key in ("question", "answer"))
            before += f"Question: {question}\nAnswer: {answer}\n\n"
        items = []
        for number, record in enumerate(read_records(test)[:limit]):
            problem = problem_of(GSM8K, record, f"{test}, item {number}")
            items.append(Item(record, f"{before}Question: {problem.prompt}\nAnswer:", answer=problem.answer))
        return items

    return Task(name, "generation", read, max_tokens=400, stop=("Question:",), score=score_by(GSM8K))
