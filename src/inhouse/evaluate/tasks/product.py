"""The product suites as tasks: `product/chat`, `product/code`, … Their items are made by code; no file is needed.

`score` is what the checker gives, `exact` 1 where that is all.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inhouse.environments.product.registry import SUITES
from inhouse.environments.product.suite import ITEMS, documents
from inhouse.evaluate.tasks.task import Item, Judged, Task

FAMILY = "product/"
NAMES = tuple(f"{FAMILY}{name}" for name in SUITES)


def product_task(name: str, data: Path, limit: int | None) -> Task:
    """`data` is not needed: nothing is read."""
    suite = SUITES[name.removeprefix(FAMILY)]

    def read() -> list[Item]:
        suite.check_machine()
        return [
            Item(
                document,
                _transcript(document),
                answer=suite.solve(document["expected"]),
                messages=tuple(document["messages"]),
            )
            for document in documents(suite, limit or ITEMS)
        ]

    def score(item: Item, reply: str) -> Judged:
        grade = suite.check(item.document["expected"], reply)
        metrics = {"score": grade.score, "exact": float(grade.score == 1), "unparsable": float(not grade.is_parsed)}
        return Judged(metrics, grade.why)

    return Task(name, "generation", read, max_tokens=suite.max_tokens, score=score)


def _transcript(document: Mapping[str, Any]) -> str:
    """What is asked, for people, and for models without a chat template."""
    said = []
    for message in document["messages"]:
        said.append(f"{message['role']}: {message['content']}")
        said += [f"tool: {json.dumps(tool['function'], ensure_ascii=False)}" for tool in message.get("tools", ())]
    return "\n".join([*said, "assistant:"])
