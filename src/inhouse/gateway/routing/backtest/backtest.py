"""What routing by the table would have scored, beside what any router must be measured against.

Half of the questions fill the table by which the other half is routed, and the other way round: no question is routed
by its own outcome. Beside it stand the best single model, the best mix of single models at the same cost, a router
that deals the same shares at random, and the oracle that knows every outcome (RouterArena, arXiv:2510.00202, shows why:
many learned routers are below a single model). The baselines are chosen in hindsight, which favours them.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np

from inhouse.gateway.routing.backtest.outcomes import Outcomes
from inhouse.gateway.routing.choice import Option, choose
from inhouse.gateway.routing.evidence import Evidence, Finding, share_of
from inhouse.gateway.routing.settings import RoutingSettings, WeightSettings
from inhouse.gateway.types import NANO, Estimate, Target

# Q questions, M models
_Z = 1.96  # of a 95 % interval
_FOLDS = 2


class Result(NamedTuple):
    """One router's quality and cost a question; `cost` is NaN where costs are unknown."""

    name: str
    quality: Estimate
    cost: float
    score_Q: np.ndarray


class Backtest(NamedTuple):
    """`gains`: the router's quality less that of each baseline, paired by question. `oracle_share`: its gain over the
    best single model, of the oracle's."""

    router: Result
    baselines: tuple[Result, ...]
    oracle: Result
    gains: Mapping[str, Estimate]
    oracle_share: Estimate
    shares: Mapping[str, float]
    left_out: int

    def lines(self, currency: str = "USD") -> Iterator[str]:
        """As a table."""
        n = len(self.router.score_Q)
        yield f"{n:,} questions, {len(self.shares)} models" + f"; {self.left_out:,} left out" * bool(self.left_out)
        width = max(len(each.name) for each in (self.router, *self.baselines, self.oracle))
        yield f"{'':<{width}}  {'quality (95 %)':<24}{f'{currency} a question':>18}  {'the router has more (95 %)'}"
        for each in (self.router, *self.baselines, self.oracle):
            cost = "n/a" if np.isnan(each.cost) else f"{each.cost:.6f}"
            gain = _signed(self.gains[each.name]) if each.name in self.gains else ""
            yield f"{each.name:<{width}}  {_plain(each.quality):<24}{cost:>18}  {gain}".rstrip()
        yield f"share of the oracle's gain over the best single model: {_plain(self.oracle_share)}"
        yield "shares: " + ", ".join(f"{model} {share:.1%}" for model, share in self.shares.items())


def backtest(
    outcomes: Outcomes,
    settings: RoutingSettings,
    inhouse: Collection[str] = (),
    default: str | None = None,
    seed: int = 0,
) -> Backtest:
    """`inhouse`: which models are; `default`: who answers where too little is known (none: who scores best)."""
    fold_Q = np.random.default_rng(seed).permutation(len(outcomes.tasks)) % _FOLDS
    picked_Q = np.empty(len(outcomes.tasks), np.int64)
    for fold in range(_FOLDS):
        picks = _picks(outcomes, fold_Q != fold, settings, inhouse, default)
        for question in np.flatnonzero(fold_Q == fold):
            picked_Q[question] = picks[outcomes.tasks[question]]
    rows_Q = np.arange(len(picked_Q))
    router = _result("router", outcomes.score_QM[rows_Q, picked_Q], outcomes.cost_QM[rows_Q, picked_Q])
    counts = Counter(picked_Q.tolist())
    share_M = np.array([counts[model] / len(picked_Q) for model in range(len(outcomes.models))])
    best = int(outcomes.score_QM.mean(0).argmax())
    single = _mixed(f"best single ({outcomes.models[best]})", outcomes, np.eye(len(outcomes.models))[best])
    matched = _mixed("matched random", outcomes, share_M)
    hull = [] if np.isnan(router.cost) else [_mixed("best mix at its cost", outcomes, _best_mix(outcomes, router.cost))]
    baselines = (single, *hull, matched)
    oracle = _oracle(outcomes)
    return Backtest(
        router, baselines, oracle,
        {each.name: _mean(router.score_Q - each.score_Q) for each in baselines},
        _ratio(router.score_Q - single.score_Q, oracle.score_Q - single.score_Q),
        dict(sorted(zip(outcomes.models, share_M.tolist(), strict=True), key=lambda pair: -pair[1])),
        outcomes.left_out,
    )  # fmt: skip


def _picks(
    outcomes: Outcomes, known_Q: np.ndarray, settings: RoutingSettings, inhouse: Collection[str], default: str | None
) -> dict[str, int]:
    """Which model (by its place) answers each task, by the outcomes of the known questions alone."""
    models, task_Q = outcomes.models, np.array(outcomes.tasks)
    default = default or models[int(outcomes.score_QM[known_Q].mean(0).argmax())]
    known = {task: known_Q & (task_Q == task) for task in dict.fromkeys(outcomes.tasks)}
    table = Evidence(
        [
            Finding(task, model, "evaluations", share_of(float(score_Q.sum()), len(score_Q)), "outcomes")
            for task, of_task_Q in known.items()
            for model, score_Q in zip(models, outcomes.score_QM[of_task_Q].T, strict=True)
            if len(score_Q)
        ],
        WeightSettings(),
    )
    picks = {}
    for task, of_task_Q in known.items():
        quality = table.quality(task, models, settings.fewest)
        options = [
            Option(Target("", model, model), model in inhouse, quality.get(model), _nano(cost_Q), None)
            for model, cost_Q in zip(models, outcomes.cost_QM[of_task_Q].T, strict=True)
        ]
        picks[task] = models.index(choose(options, settings, default).order[0].model)
    return picks


def _nano(cost_Q: np.ndarray) -> int:
    """The mean, where it is known; an unknown cost weighs nothing, and is printed as n/a."""
    return 0 if not len(cost_Q) or np.isnan(cost_Q).any() else round(float(cost_Q.mean()) * NANO)


def _mixed(name: str, outcomes: Outcomes, share_M: np.ndarray) -> Result:
    """Expected of a router that deals questions at random in these shares."""
    used_M = share_M > 0
    score_Q = outcomes.score_QM[:, used_M] @ share_M[used_M]
    return _result(name, score_Q, outcomes.cost_QM[:, used_M] @ share_M[used_M])


def _best_mix(outcomes: Outcomes, cost: float) -> np.ndarray:
    """(M,) shares of at most two models: the best mean score that costs no more; the cheapest where all cost more."""
    score_M, cost_M = outcomes.score_QM.mean(0), outcomes.cost_QM.mean(0)
    best_M, best = np.eye(len(score_M))[int(cost_M.argmin())], float(score_M[int(cost_M.argmin())])
    for cheap, dear in permutations(range(len(score_M)), 2):
        if cost_M[cheap] <= cost and cost_M[cheap] < cost_M[dear]:
            part = min((cost - cost_M[cheap]) / (cost_M[dear] - cost_M[cheap]), 1.0)
            for share in (0.0, part):
                if (mean := (1 - share) * score_M[cheap] + share * score_M[dear]) > best:
                    best_M, best = np.zeros(len(score_M)), float(mean)
                    best_M[[cheap, dear]] = 1 - share, share
    return best_M


def _oracle(outcomes: Outcomes) -> Result:
    """Of every question the best outcome, of equals the cheapest."""
    best_Q = outcomes.score_QM.max(1)
    cost_QM = np.where(outcomes.score_QM == best_Q[:, None], outcomes.cost_QM, np.inf)
    cost_Q = np.full(len(best_Q), np.nan) if np.isnan(outcomes.cost_QM).any() else cost_QM.min(1)
    return _result("oracle", best_Q, cost_Q)


def _result(name: str, score_Q: np.ndarray, cost_Q: np.ndarray) -> Result:
    return Result(name, _mean(score_Q), float(cost_Q.mean()), score_Q)


def _mean(value_Q: np.ndarray) -> Estimate:
    n, mean = len(value_Q), float(value_Q.mean())
    half = _Z * float(value_Q.std(ddof=1)) / n**0.5 if n > 1 else float("inf")
    return Estimate(mean, mean - half, mean + half, n)


def _ratio(part_Q: np.ndarray, whole_Q: np.ndarray) -> Estimate:
    """Of two means, its interval by the delta method; NaN where the oracle gains nothing."""
    whole = float(whole_Q.mean())
    if whole <= 0:
        return Estimate(float("nan"), float("nan"), float("nan"), len(whole_Q))
    ratio = float(part_Q.mean()) / whole
    spread = _mean((part_Q - ratio * whole_Q) / whole)
    return Estimate(ratio, ratio + spread.low, ratio + spread.high, len(whole_Q))


def _plain(estimate: Estimate) -> str:
    return f"{estimate.mean:.4f} ({estimate.low:.4f}-{estimate.high:.4f})"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.mean:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
