"""Two models task by task: what differs, within which bounds, what could have been seen, and the verdict in words."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from inhouse.evaluate.cluster_robust import Array, Estimate, cluster_sums, clustered_mean
from inhouse.evaluate.compare.matching import Matched, match_tasks, unshared_tasks
from inhouse.evaluate.compare.sides import Sides, read_side, read_sides
from inhouse.evaluate.compare.statistics import (
    ALPHA,
    LEAST_CHECKPOINTS,
    LEAST_SIGNAL,
    exact_p,
    holm,
    signal_to_noise,
    smallest_visible,
    swap_test,
)
from inhouse.evaluate.results import Answer, Results

# of a task's metrics, the first that both sides have
PREFERRED = ("accuracy", "acc", "exact_match", "bits_per_byte")
_LOWER_IS_BETTER = {  # words of a metric's name
    "bits", "perplexity", "ppl", "brier", "loss", "error", "wer", "cer", "ter", "mae", "mse", "rmse", "refused", "cut",
    "unparsable", "truncated", "touched", "overlap",
}  # fmt: skip
_RATIOS = {"bits_per_byte": ("bits", "bytes")}


class TaskComparison(NamedTuple):
    """One task. Differences are A - B; None is what cannot be said."""

    task: str
    metric: str
    n: int
    clusters: int
    a: float
    a_error: float | None
    b: float
    b_error: float | None
    difference: float
    error: float | None
    low: float | None
    high: float | None
    p: float
    p_exact: float | None
    p_holm: float
    visible: float | None
    a_higher: int
    b_higher: int
    only_a: int
    only_b: int
    unscored: int
    repeated: int
    signal: float | None
    verdict: str


class Flip(NamedTuple):
    """An item that the two answered with different scores."""

    a: Answer
    b: Answer
    a_score: float
    b_score: float


class Comparison(NamedTuple):
    """All tasks; `notes` are sentences on what was not compared."""

    a: dict[str, Any]
    b: dict[str, Any]
    tasks: list[TaskComparison]
    flips: dict[str, list[Flip]]
    notes: list[str]
    verdict: str


def compare(
    a: str, b: str, metric: str | None = None, cluster: str | None = None, checkpoints: Sequence[str] = ()
) -> Comparison:
    """Compare two results, by each task's own metric or `metric`, with clusters from the documents' key `cluster`.

    `checkpoints` are results of one run's last checkpoints: no decision is drawn on a task whose difference is not
    `LEAST_SIGNAL` times the standard deviation between them. Raises ValueError for what cannot be compared.
    """
    if 0 < len(checkpoints) < LEAST_CHECKPOINTS:
        raise ValueError(f"--checkpoint: {len(checkpoints)} say nothing of noise; give {LEAST_CHECKPOINTS} or more")
    sides = read_sides(a, b, cluster)
    as_ours = sides.a.about.get("kind") != sides.b.about.get("kind")
    runs = [read_side(path, cluster, as_ours) for path in checkpoints]
    return compare_results(sides, metric, runs)


def compare_results(sides: Sides, metric: str | None = None, checkpoints: Sequence[Results] = ()) -> Comparison:
    matched = match_tasks(sides)
    measured = [_measured(each, metric, len(matched), checkpoints) for each in matched]
    adjusted = holm([row.p for row, _ in measured])
    rows = [_judged(row._replace(p_holm=p)) for (row, _), p in zip(measured, adjusted, strict=True)]
    flips = {row.task: flipped for row, (_, flipped) in zip(rows, measured, strict=True)}
    return Comparison(sides.a.about, sides.b.about, rows, flips, list(_notes(sides, rows)), _overall(rows))


def _measured(
    matched: Matched, metric: str | None, tests: int, checkpoints: Sequence[Results]
) -> tuple[TaskComparison, list[Flip]]:
    name = _metric(matched, metric)
    scored = _scored(matched, name)
    starts = scored.starts()
    (y_a, w), (y_b, _) = (_columns(side, name) for side in zip(*scored.pairs, strict=True))
    a, b = cluster_sums(y_a, w, starts), cluster_sums(y_b, w, starts)
    scores, difference, test = (clustered_mean(a), clustered_mean(b)), clustered_mean(a - b), swap_test(a - b)
    flips = _flips(scored.pairs, y_a / w, y_b / w)
    error, low, high = map(_known, (float(difference.standard_error), test.low, test.high))
    row = TaskComparison(
        task=matched.task,
        metric=name,
        n=len(scored.pairs),
        clusters=len(starts),
        **_sides_of(scores),
        difference=float(difference.value),
        error=error,
        low=low,
        high=high,
        p=test.p,
        p_exact=exact_p(_whole(a.y - b.y, y_a, y_b)),
        p_holm=math.nan,
        visible=_visible(error, low, high, tests),
        a_higher=sum(flip.a_score > flip.b_score for flip in flips),
        b_higher=sum(flip.a_score < flip.b_score for flip in flips),
        only_a=matched.only_a,
        only_b=matched.only_b,
        unscored=len(matched.pairs) - len(scored.pairs),
        repeated=matched.repeated,
        signal=_signal(scored, name, scores, checkpoints),
        verdict="",
    )
    return row, flips


def _visible(error: float | None, low: float | None, high: float | None, tests: int) -> float | None:
    if error is None or low is None or high is None:
        return None
    return smallest_visible(error, low, high, tests)


def _scored(matched: Matched, name: str) -> Matched:
    """The pairs that have the score on both sides."""
    pairs = [pair for pair in matched.pairs if all(_value(each, name) for each in pair)]
    if not pairs:
        raise ValueError(f"{matched.task}: none of its {len(matched.pairs):,} pairs has the score {name} on both sides")
    return matched._replace(pairs=pairs)


def _flips(pairs: Sequence[tuple[Answer, Answer]], a: Array, b: Array) -> list[Flip]:
    scores = zip(pairs, a.tolist(), b.tolist(), strict=True)
    return [Flip(*pair, a_score, b_score) for pair, a_score, b_score in scores if a_score != b_score]


def _metric(matched: Matched, asked: str | None) -> str:
    """The task's metric; a scorer that one side alone has is no metric of both."""
    names = [_names(side) for side in zip(*matched.pairs, strict=True)]
    shared = [name for name in names[0] if name in names[1]]
    if asked is not None and asked in shared:
        return asked
    if asked is not None or not shared:
        said = [", ".join(each) or "none" for each in names]
        raise ValueError(f"{matched.task}: no metric {asked or 'in common'}; A has {said[0]}; B has {said[1]}")
    return next((name for name in PREFERRED if name in shared), shared[0])


def _names(answers: Sequence[Answer]) -> list[str]:
    """Of the metrics, in the order of the first answer that has them; a ratio beside its parts."""
    names = list(dict.fromkeys(name for answer in answers for name in answer.metrics))
    return [name for name, parts in _RATIOS.items() if set(parts) <= set(names)] + names


def _value(answer: Answer, name: str) -> tuple[float, float] | None:
    """The value and weight of an answer; None where it was not scored."""
    parts = _RATIOS.get(name)
    if parts and name not in answer.metrics:
        value, weight = (answer.metrics.get(part, 0.0) for part in parts)
        return (value, weight) if weight else None
    return (answer.metrics[name], 1.0) if name in answer.metrics else None


def _columns(answers: Sequence[Answer], name: str) -> tuple[Array, Array]:
    values = np.array([_value(answer, name) for answer in answers], float)
    return values[:, 0], values[:, 1]


def _whole(differences: Array, y_a: Array, y_b: Array) -> Array:
    """Of right and wrong; of anything else nothing that can be counted."""
    return differences if set(np.unique([y_a, y_b])) <= {0.0, 1.0} else np.array([math.nan])


def _sides_of(scores: tuple[Estimate, Estimate]) -> dict[str, Any]:
    (a, a_error), (b, b_error) = ((float(value), _known(float(error))) for value, error in scores)
    return {"a": a, "a_error": a_error, "b": b, "b_error": b_error}


def _signal(
    matched: Matched, name: str, scores: tuple[Estimate, Estimate], checkpoints: Sequence[Results]
) -> float | None:
    """Signal over noise, of the same items; None without checkpoints, or where they do not vary."""
    if not checkpoints:
        return None
    asked = {(pair[0].item, pair[0].number) for pair in matched.pairs}
    values = []
    for number, run in enumerate(checkpoints, 1):
        mine = [x for x in run.answers if x.task == matched.task and (x.item, x.number) in asked and _value(x, name)]
        if len(mine) != len(asked):
            raise ValueError(
                f"{matched.task}: checkpoint {number} has {len(mine):,} of the {len(asked):,} items compared"
            )
        y, w = _columns(mine, name)
        values.append(float(y.sum() / w.sum()))
    return _known(signal_to_noise([float(each.value) for each in scores], values))


def _judged(row: TaskComparison) -> TaskComparison:
    higher = "A" if row.difference > 0 else "B"
    is_worse = not _LOWER_IS_BETTER.isdisjoint(re.findall("[a-z]+", row.metric.lower()))
    better = {"A": "B", "B": "A"}[higher] if is_worse else higher
    if row.a_higher + row.b_higher == 0:
        verdict = "no item differs"
    elif row.p_holm >= ALPHA:
        verdict = "not resolved"
    elif row.signal is not None and row.signal < LEAST_SIGNAL:
        verdict = f"no decision: {row.signal:.1f} times the noise between checkpoints, less than {LEAST_SIGNAL:g}"
    else:
        verdict = f"{better} is better"
    return row._replace(verdict=verdict)


def _overall(rows: Sequence[TaskComparison]) -> str:
    """The verdict in a sentence or two."""
    won = {side: [row.task for row in rows if row.verdict == f"{side} is better"] for side in "AB"}
    open_tasks = [row for row in rows if not row.verdict.endswith("is better")]
    parts = [f"{side} is better on {_listed(tasks)}" for side, tasks in won.items() if tasks]
    if not open_tasks:
        return f"{'; '.join(parts)}."
    seen = sorted(row.visible for row in open_tasks if row.visible is not None)
    bounds = " to ".join(f"{value:.3g}" for value in dict.fromkeys((seen[0], seen[-1]))) if seen else ""
    could = f"; a true difference of {bounds} or more is found in 80 % of cases" if seen else ""
    where = "Nothing is resolved" if not parts else f"{len(open_tasks)} of {len(rows)} tasks decide nothing"
    return ". ".join([*(["; ".join(parts)] if parts else []), f"{where}{could}"]) + "."


def _listed(tasks: Sequence[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= 5 else f"{len(tasks)} tasks ({', '.join(tasks[:4])}, …)"


def _notes(sides: Sides, rows: Sequence[TaskComparison]) -> list[str]:
    """What a reader must know of what was not compared."""
    notes = [f"{name}: {note}" for name, side in zip("AB", sides, strict=True) for note in side.about.get("notes", ())]
    for name, tasks in zip("AB", unshared_tasks(sides), strict=True):
        notes += [f"only {name} has {_listed(tasks)}"] if tasks else []
    for row in rows:
        lost = [
            f"{count:,} of {side}'s answers have no partner" for side, count in (("A", row.only_a), ("B", row.only_b))
        ]
        lost += [f"{row.unscored:,} pairs lack a score", f"{row.repeated:,} lines stand twice and count once"]
        notes += [f"{row.task}: {part}" for part in lost if not part.startswith("0 ")]
    return notes


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
