"""From log-likelihoods to what an answer is worth, and from answers to scores. No torch."""

import math
from collections.abc import Hashable, Sequence

from inhouse.evaluate.results import Answer, Choice
from inhouse.evaluate.score import Score, mean, ratio
from inhouse.evaluate.suite.thinking import without_thinking
from inhouse.evaluate.tasks.task import Item, Judged, Task

TOUCHED = "touched"  # 1 where an item shares an n-gram with the training text, 0 where it does not
TRUNCATED = "truncated"  # 1 where the beginning of an item did not fit the context; absent elsewhere
OVERLAP = "overlap"  # the share of an item's tokens that are in such n-grams
_HOW = {
    "accuracy": "the likeliest choice is the right one",
    "accuracy_per_byte": "the likeliest choice by its bytes is the right one",
    "accuracy_per_token": "the likeliest choice by its tokens is the right one",
    "centred": "the task's own accuracy, 0 for guessing and 1 for all right",
    "bits_per_byte": "of the right choice, or the text",
    "score": "what the checker gives, from 0 to 1",
    "exact": "the checker gives all",
    "refused": "the endpoint refused to answer; counted wrong",
    "cut_off": "answers that reached the most tokens; judged as they are",
    "exact_match": "the answer is right to the letter",
    "exact_match_lenient": "the same, however the answer is given",
    "credit": "the share of what was asked that is right",
    "greedy": "the text is what the model would say itself",
    "unparsable": "answers without the form asked for; counted wrong",
    TRUNCATED: "items longer than the model's context, whose beginning was left out",
    TOUCHED: "items that share 13 tokens in a row with the training text",
}


def choice_metrics(task: Task, item: Item, choices: Sequence[Choice], is_greedy: bool) -> dict[str, float]:
    """What the log-likelihoods of an item's choices say; of a log-likelihood task, of its one text.

    Of choices that are equally likely the first counts as chosen; in a minimal pair neither is. Raises ValueError where
    one is NaN or infinite.
    """
    if not all(math.isfinite(choice.log_likelihood) for choice in choices):
        raise ValueError(
            f"task {task.name}: the model gives a text a log-likelihood that is no number: its weights are broken, or "
            "too large for --dtype"
        )
    gold = choices[item.gold or 0]
    size = {"bits": -gold.log_likelihood / math.log(2), "bytes": float(gold.bytes)}
    if task.kind == "log_likelihood":
        greedy = {"greedy": float(is_greedy)} if item.context else {}
        return _centred(task, greedy) | size
    metrics = {
        "accuracy": _is_right(item, [each.log_likelihood for each in choices], task),
        "accuracy_per_byte": _is_right(item, [each.log_likelihood / each.bytes for each in choices], task),
        "accuracy_per_token": _is_right(item, [each.log_likelihood / each.tokens for each in choices], task),
    }
    return _centred(task, metrics) | size


def judged_again(task: Task, item: Item, kept: Answer) -> Answer | None:
    """An answer of an earlier run, judged as the task has it now; None where that run asked about other choices."""
    if [choice.text for choice in kept.choices] != list(item.choices):
        return None
    beside = {name: kept.metrics[name] for name in (TRUNCATED, "refused", "cut_off") if name in kept.metrics}
    if task.kind == "generation":
        judged = task.score(item, without_thinking(kept.output, kept.prompt))
    else:
        judged = Judged(choice_metrics(task, item, kept.choices, bool(kept.metrics.get("greedy"))))
    metrics = judged.metrics | beside
    return kept._replace(cluster=item.cluster, gold=item.gold_text, metrics=metrics, why=judged.why)


def _centred(task: Task, metrics: dict[str, float]) -> dict[str, float]:
    """The metrics, and the centred one where it is known what guessing scores."""
    if task.chance is None or task.centred_metric not in metrics:
        return metrics
    return metrics | {"centred": (metrics[task.centred_metric] - task.chance) / (1 - task.chance)}


def _is_right(item: Item, values: list[float], task: Task) -> float:
    best = max(values)
    if task.kind == "minimal_pairs" and values.count(best) > 1:
        return 0.0
    return float(values.index(best) == item.gold)


def summarise(answers: Sequence[Answer]) -> dict[str, Score]:
    """Every task's scores as `task/metric`, in the answers' order; where it is known which items the training text
    touches, of clean and of touched ones beside that of all."""
    scores: dict[str, Score] = {}
    for task in dict.fromkeys(answer.task for answer in answers):
        own = [answer for answer in answers if answer.task == task]
        scores |= _scores(f"{task}/", own)
    return scores


def _scores(prefix: str, answers: Sequence[Answer]) -> dict[str, Score]:
    scores = {}
    names = dict.fromkeys(name for answer in answers for name in answer.metrics)
    sides = {
        which: [answer for answer in answers if answer.metrics.get(TOUCHED) == wanted]
        for which, wanted in (("clean", 0.0), (TOUCHED, 1.0))
    }
    for name in ["bits_per_byte" if name == "bits" else name for name in names if name not in ("bytes", OVERLAP)]:
        scores[prefix + name] = _score(name, answers)
        if name not in (TOUCHED, TRUNCATED) and sides[TOUCHED]:
            scores |= {f"{prefix}{name}_{which}": _score(name, side) for which, side in sides.items() if side}
    return scores


def _score(name: str, answers: Sequence[Answer]) -> Score:
    key = "bits" if name == "bits_per_byte" else name
    counted = [answer for answer in answers if key in answer.metrics or name == TRUNCATED]
    how, clusters = _HOW.get(name, name.replace("_", " ")), _clusters(counted)
    if name == "bits_per_byte":
        bits, sizes = ([answer.metrics[part] for answer in counted] for part in ("bits", "bytes"))
        return ratio(bits, sizes, how, clusters)
    return mean([answer.metrics.get(name, 0.0) for answer in counted], how, clusters)


def _clusters(answers: Sequence[Answer]) -> list[Hashable]:
    """What each item shares with others; an item that shares nothing is a cluster of its own, with what a file holds
    of it once more."""
    return [answer.item if answer.cluster is None else answer.cluster for answer in answers]
