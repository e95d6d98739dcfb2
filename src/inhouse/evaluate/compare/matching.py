"""Which answer of A belongs to which of B: the same item of the same task, asked in the same words."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from inhouse.evaluate.compare.sides import Sides, differing_keys
from inhouse.evaluate.results import Answer


class Matched(NamedTuple):
    """A task's pairs of answers, those of a cluster side by side, and what has no partner."""

    task: str
    pairs: list[tuple[Answer, Answer]]
    only_a: int
    only_b: int
    repeated: int  # lines that stand twice, word for word, and count once

    def starts(self) -> list[int]:
        """Where each cluster begins among the pairs; an item that shares nothing is one by itself."""
        clusters = [_cluster(pair[0]) for pair in self.pairs]
        return [place for place, one in enumerate(clusters) if not place or one != clusters[place - 1]]


def match_tasks(sides: Sides) -> list[Matched]:
    """Every task that both have, in A's order.

    Raises ValueError where they share no task or item, were asked or filtered differently, or contradict themselves.
    """
    by_task = [_grouped(side.answers) for side in sides]
    shared = [task for task in by_task[0] if task in by_task[1]]
    _check_filters(*by_task)
    if not shared:
        names = [", ".join(sorted(tasks)[:5]) or "none" for tasks in by_task]
        raise ValueError(f"no task in common: A has {names[0]}; B has {names[1]}")
    return [_matched(task, by_task[0][task], by_task[1][task], sides) for task in shared]


def unshared_tasks(sides: Sides) -> tuple[list[str], list[str]]:
    """The tasks that only A has, and those that only B has."""
    a, b = ({answer.task for answer in side.answers} for side in sides)
    return sorted(a - b), sorted(b - a)


def _grouped(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    tasks: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        tasks[answer.task].append(answer)
    return tasks


def _check_filters(a: Iterable[str], b: Iterable[str]) -> None:
    """Answers of one task that other filters took are other answers."""
    filters = [_grouped_filters(tasks) for tasks in (a, b)]
    for task in filters[0]:
        if task in filters[1] and not filters[0][task] & filters[1][task]:
            said = [", ".join(sorted(one[task])) for one in filters]
            raise ValueError(f"{task}: filter differs (A: {said[0]}; B: {said[1]}), so its scores cannot be compared")


def _grouped_filters(tasks: Iterable[str]) -> dict[str, set[str]]:
    filters: dict[str, set[str]] = defaultdict(set)
    for name in tasks:
        task, _, taken = name.partition(" [")
        filters[task].add(taken.removesuffix("]") or "none")
    return filters


def _matched(task: str, a: list[Answer], b: list[Answer], sides: Sides) -> Matched:
    (items_a, repeated_a), (items_b, repeated_b) = _once(a, "A"), _once(b, "B")
    pairs = []
    for item, ours in items_a.items():
        pairs += _paired(ours, items_b.get(item, {}))
    if not pairs:
        raise ValueError(
            f"{task}: no item in common (A has {len(items_a):,}, B {len(items_b):,}); other data, or splits?"
        )
    _check_questions(task, pairs, sides)
    pairs.sort(key=lambda pair: _cluster(pair[0]))
    left = [sum(map(len, items.values())) - len(pairs) for items in (items_a, items_b)]
    return Matched(task, pairs, left[0], left[1], repeated_a + repeated_b)


def _once(answers: list[Answer], side: str) -> tuple[dict[str, dict[int, Answer]], int]:
    """By item and number; with how many lines say again what another has said."""
    items: dict[str, dict[int, Answer]] = defaultdict(dict)
    repeated = 0
    for answer in answers:
        known = items[answer.item].setdefault(answer.number, answer)
        if known is not answer:
            if known != answer:
                raise ValueError(
                    f"{answer.task}: item number {answer.number} stands twice in {side} with different answers or "
                    f"scores; is the file of two runs?"
                )
            repeated += 1
    return items, repeated


def _paired(a: dict[int, Answer], b: dict[int, Answer]) -> list[tuple[Answer, Answer]]:
    """An item that its data set holds more than once is paired in its order, or by its numbers where B has fewer."""
    if len(a) == len(b):
        return list(zip((a[n] for n in sorted(a)), (b[n] for n in sorted(b)), strict=True))
    return [(a[number], b[number]) for number in sorted(a.keys() & b.keys())]


def _check_questions(task: str, pairs: list[tuple[Answer, Answer]], sides: Sides) -> None:
    settings = [(side.about.get("settings") or {}).get(task.partition(" [")[0]) for side in sides]
    kinds = [side.about.get("kind") for side in sides]
    are_ours = all(kind in ("folder", "endpoint") for kind in kinds)
    is_one_program = are_ours or kinds[0] == kinds[1]
    is_known = is_one_program and all(isinstance(each, dict) for each in settings)
    keys = list(differing_keys(settings[0], settings[1])) if is_known else []
    if others := sum(not _is_one_prompt(*pair, is_one_program) for pair in pairs):
        why = f"; of its settings {', '.join(keys)} differ" if keys else ""
        raise ValueError(f"{task}: prompt_hash differs in {others:,} of {len(pairs):,} items: other prompts{why}")
    if scorers := [key for key in keys if key.startswith(("scorers", "task_version"))]:
        raise ValueError(f"{task}: {', '.join(scorers)} differ, so its scores cannot be compared")
    are_alike = is_known or are_ours  # lm-eval's gold is a number at times where ours is a text
    if others := sum(None not in (a.gold, b.gold) and a.gold != b.gold for a, b in pairs) if are_alike else 0:
        raise ValueError(f"{task}: target differs in {others:,} of {len(pairs):,} items: other right answers")


def _is_one_prompt(a: Answer, b: Answer, is_one_program: bool) -> bool:
    """Of two programs: one counts the space before a choice to the prompt, the other to the choice."""
    if a.prompt_hash == b.prompt_hash:
        return True
    return not is_one_program and a.prompt.rstrip() == b.prompt.rstrip()


def _cluster(answer: Answer) -> str:
    return answer.cluster if answer.cluster is not None else answer.item
