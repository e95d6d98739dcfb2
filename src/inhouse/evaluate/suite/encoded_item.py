"""Items as tokens: what stands before their choices, and the choices."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.continuations import Branches
from inhouse.evaluate.tasks.task import Item, Task


class EncodedItem(NamedTuple):
    """An item's choices as continuations of its context, or one branch a context; tokens left out of its beginning."""

    branches: list[Branches]
    left_out: int = 0

    @property
    def num_positions(self) -> int:
        return max(branch.num_positions for branch in self.branches)

    def fitted(self, context: int, task: Task, number: int) -> "EncodedItem":
        """Contexts without their beginnings where they are too long. Raises ValueError where a choice alone is."""
        over = [max(0, branch.num_positions - context) for branch in self.branches]
        for branch, more in zip(self.branches, over, strict=True):
            if more >= len(branch.context):
                most = max(map(len, branch.continuations))
                raise ValueError(
                    f"task {task.name}, item {number}: a choice has {most:,} tokens, but the model's context is "
                    f"{context:,}; leave the item out"
                )
        branches = [
            Branches(branch.context[more:], branch.continuations)
            for branch, more in zip(self.branches, over, strict=True)
        ]
        return EncodedItem(branches, sum(over))


def encode_items(tokenizer: Tokenizer, items: Sequence[Item]) -> list[EncodedItem]:
    """Each item's contexts and choices as tokens: cut where lm-eval cuts them (its `_encode_pair`).

    Context and choice are encoded as one text; the choice's tokens are those behind as many as the context alone has.
    White space at the end of a context belongs to what follows it. Behind no context stands the end of a document.
    """
    pairs = [_moved(*pair) for item in items for pair in item.pairs]
    wholes = tokenizer.encode_batch([context + text for context, text in pairs])
    contexts = dict(_encoded(tokenizer, {context for context, _ in pairs}))
    results, at = [], 0
    for item in items:
        own: dict[int, Branches] = {}
        for i in range(at, at + len(item.choices)):
            context = contexts[pairs[i][0]]
            follows = wholes[i][len(context) :] or tokenizer.encode(pairs[i][1])
            branch = own.setdefault(i if item.contexts else at, Branches(context or [tokenizer.end_of_document], []))
            branch.continuations.append(follows)
        at += len(item.choices)
        results.append(EncodedItem(list(own.values())))
    return results


def _encoded(tokenizer: Tokenizer, texts: set[str]) -> Iterator[tuple[str, list[int]]]:
    ordered = sorted(texts)
    return zip(ordered, tokenizer.encode_batch(ordered), strict=True)


def _moved(context: str, text: str) -> tuple[str, str]:
    bare = context.rstrip()
    return bare, context[len(bare) :] + text
