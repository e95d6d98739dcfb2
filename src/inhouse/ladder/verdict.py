"""*adopt*, *reject* or *not resolved*: what the gains on all corpora say together, and what would say more."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from inhouse.ladder.efficiency_gain import Comparison, Gain

_CORPORA = 2  # code and prose: a gain on one kind of text may be a loss on the other
_MOST_SEEDS = 100
ADOPT, REJECT, NOT_RESOLVED = "adopt", "reject", "not resolved"


class Both(NamedTuple):
    """What a candidate is worth on one corpus, by counted FLOPs and by measured seconds."""

    flops: Comparison
    seconds: Comparison


class Verdict(NamedTuple):
    """A word, why, and what else is to be known."""

    word: str
    reason: str
    remarks: list[str]


def decide(found: Mapping[str, Both], seeds: int) -> Verdict:
    """The verdict on a candidate from the comparisons on each corpus, by its name."""
    remarks = [remark for corpus, both in found.items() for remark in _remarks(corpus, both, seeds)]
    gains = {corpus: both.flops.overall for corpus, both in found.items()}
    shown = ", ".join(f"{corpus} {gain}" for corpus, gain in gains.items())
    if any(gain.high < 1.0 for gain in gains.values()):
        worse = next(corpus for corpus, gain in gains.items() if gain.high < 1.0)
        return Verdict(REJECT, f"it needs more compute than the baseline on {worse}: {shown}", remarks)
    if not all(gain.low > 1.0 for gain in gains.values()):
        return Verdict(NOT_RESOLVED, f"the interval of the gain contains 1: {shown}", remarks)
    for corpus, both in found.items():
        if any(gain.value <= 1.0 for gain in both.flops.rungs[-2:]):
            return Verdict(NOT_RESOLVED, f"its two largest rungs do not both gain on {corpus}: {shown}", remarks)
        largest, trend = both.flops.rungs[-1], both.flops.trend
        if trend.high < 1.0 and largest.low <= 1.0:
            reason = f"its gain falls with scale on {corpus}, to {largest} at the largest rung"
            return Verdict(NOT_RESOLVED, reason, remarks)
        if both.seconds.overall.high < 1.0:
            return Verdict(NOT_RESOLVED, f"it gains in FLOPs and loses in seconds on {corpus}: {shown}", remarks)
    if len(found) < _CORPORA:
        return Verdict(
            NOT_RESOLVED,
            f"a gain on one corpus, {shown}; to adopt it, it must gain on a second kind of text too: --also FOLDER",
            remarks,
        )
    return Verdict(ADOPT, f"it gains at the two largest rungs and on every corpus: {shown}", remarks)


def _remarks(corpus: str, both: Both, seeds: int) -> list[str]:
    flops, seconds = both
    found = [f"{corpus}: a gain of {flops.smallest:.3f} or more would have been seen in 4 of 5 such ladders"]
    if not flops.overall.is_resolved:
        found.append(f"{corpus}: {_would_resolve(flops, seeds)}")
    if (flops.overall.value - 1) * (seconds.overall.value - 1) < 0:
        found.append(f"{corpus}: FLOPs and seconds disagree: {flops.overall} in FLOPs, {seconds.overall} in seconds")
    if flops.trend.is_resolved:
        found.append(
            f"{corpus}: the gain changes with scale, by × {flops.trend} with ten times the compute: go by the largest "
            f"rung, {flops.rungs[-1]}, not by one gain for all"
        )
    found += [f"{corpus}: {flip}" for flip in _flips(flops.rungs)]
    return found


def _would_resolve(comparison: Comparison, seeds: int) -> str:
    seen, wanted = math.log(comparison.smallest), abs(math.log(comparison.overall.value))
    needed = math.ceil(seeds * (seen / wanted) ** 2) if wanted else math.inf
    if needed > _MOST_SEEDS:
        return f"a gain as small as {comparison.overall.value:.3f} is beyond what more seeds resolve"
    return f"if the gain is {comparison.overall.value:.3f}, about {needed} seeds a rung would resolve it"


def _flips(rungs: list[Gain]) -> list[str]:
    signs = [each.value > 1.0 for each in rungs]
    if len(set(signs)) == 1:
        return []
    sure = {each.low > 1.0 for each in rungs if each.is_resolved}
    shown = ", ".join(f"{each.value:.3f}" for each in rungs)
    if len(sure) == 2:
        return [f"the rank flips between rungs, beyond their intervals: {shown}"]
    return [f"the rank flips between rungs, within their intervals: {shown}"]
