"""Earlier answers to a task's items, for a suite that may have changed since. No torch."""

from collections.abc import Mapping, Sequence

from inhouse.evaluate.results import Answer, Key, item_hash, keys_of, text_hash
from inhouse.evaluate.suite.summary import OVERLAP, TOUCHED, TRUNCATED, choice_metrics
from inhouse.evaluate.tasks.task import Item, Task


def item_keys(task: Task, items: Sequence[Item], prompts: Sequence[str]) -> list[Key]:
    """By what the answers to a task's items are known; `prompts` are what the model sees of each."""
    return keys_of(
        (task.name, item_hash(item.document), text_hash(prompt), item.gold_text, item.choices)
        for item, prompt in zip(items, prompts, strict=True)
    )


def reused(known: Mapping[Key, Answer], key: Key, task: Task, item: Item, number: int) -> Answer | None:
    """The answer with the metrics, cluster and number of now; None where there is none.

    What guessing scores and what items share is the suite's to say. Marks of overlap are made anew, where asked for.
    """
    if (answer := known.get(key)) is None:
        return None
    metrics = {name: value for name, value in answer.metrics.items() if name not in (OVERLAP, TOUCHED)}
    if item.choices:
        truncated = {name: value for name, value in metrics.items() if name == TRUNCATED}
        metrics = choice_metrics(task, item, answer.choices, bool(metrics.get("greedy"))) | truncated
    return answer._replace(number=number, cluster=item.cluster, metrics=metrics)
