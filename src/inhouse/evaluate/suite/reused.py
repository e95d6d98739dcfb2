"""Earlier answers to a task's items, for a suite that may have changed since. No torch."""

from collections.abc import Mapping, Sequence

from inhouse.evaluate.results import Answer, Key, item_hash, keys_of, text_hash
from inhouse.evaluate.suite.summary import judged_again
from inhouse.evaluate.tasks.task import Item, Task


def asked_hash(item: Item, prompt: str, is_chat: bool) -> str:
    """Of what is asked: the messages, whatever the template that each model has for them; without a chat the prompt."""
    return item_hash(item.as_chat()) if is_chat else text_hash(prompt)


def item_keys(task: Task, items: Sequence[Item], hashes: Sequence[str]) -> list[Key]:
    """By what the answers to a task's items are known; `hashes` are those of what is asked."""
    return keys_of(
        (task.name, item_hash(item.document), hashed, item.gold_text, item.choices)
        for item, hashed in zip(items, hashes, strict=True)
    )


def reused(known: Mapping[Key, Answer], key: Key, task: Task, item: Item, number: int) -> Answer | None:
    """The answer, judged as the task has it now, with the number of now; None where there is none.

    Marks of overlap are made anew, where asked for.
    """
    again = judged_again(task, item, known[key]) if key in known else None
    return None if again is None else again._replace(number=number)
