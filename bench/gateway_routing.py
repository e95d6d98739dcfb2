"""Routing on 5,000 questions x 8 models whose structure is known: what the table gains, and when nothing can be gained.

    PYTHONPATH=. python bench/gateway_routing.py [--write]
    PYTHONPATH=. python bench/gateway_routing.py --files FILE … [--prices FILE] [--per-cost N …] [--write]
    PYTHONPATH=. python bench/gateway_routing.py --labels FILE

Models have a skill, a strength of their own at each of ten tasks, and a price; questions have a difficulty that all
models share, and a text of their task, from which the classifier tells the task. `--files`: the same on outcomes of
others (RouteLLM's, LLMRouter's, RouterArena's files, folders of `inhouse eval`). `--labels`: how the classifier tells
requests whose task is known, as `[routing] labels` has them.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inhouse.environments.product.registry import SUITES
from inhouse.environments.product.suite import documents
from inhouse.gateway.routing.backtest.backtest import Backtest, backtest
from inhouse.gateway.routing.backtest.outcomes import Outcomes, read_outcomes
from inhouse.gateway.routing.classifier import train
from inhouse.gateway.routing.evidence import Evidence, Finding, share_of
from inhouse.gateway.routing.prompts import own_examples
from inhouse.gateway.routing.settings import RoutingSettings, WeightSettings
from inhouse.providers.prices import read_prices

RESULTS = Path(__file__).parent / "results"
QUESTIONS, SEEDS = 5_000, 20
PRICE_M = np.array([0.0002, 0.0004, 0.0008, 0.0015, 0.003, 0.006, 0.012, 0.02])  # dollars of a usual answer
MODELS = ("own", "tiny", "small", "fair", "good", "better", "great", "best")
PER_COST = (0.0, 1.0, 5.0, 20.0)
FEW = 64  # questions of a task in a suite
GAINS = "over the best single | over the best mix at its cost | over matched random | of the oracle's gain"


class Structure(NamedTuple):
    """How far models differ: in skill by price, and at a task, each in logits."""

    skill: float
    strength: float


STRUCTURES = {
    "models differ by task": Structure(1.0, 0.8),
    "models differ a little by task": Structure(1.0, 0.3),
    "a dear model is better, at all tasks alike": Structure(1.0, 0.0),
    "all models are alike": Structure(0.0, 0.0),
}


def texts() -> dict[str, list[str]]:
    """Questions of every task, others than those that the classifier learns from."""
    return {
        f"product/{name}": [
            next(message["content"] for message in document["messages"] if message["role"] == "user")
            for document in documents(suite, 40, seed=99)
        ]
        for name, suite in SUITES.items()
    }


def made(structure: Structure, questions: dict[str, list[str]], seed: int) -> Outcomes:
    """Outcomes of one draw of models and questions."""
    random = np.random.default_rng(seed)
    tasks = list(questions)
    share_K = random.dirichlet(np.full(len(tasks), 2.0))  # some tasks are asked more often
    task_Q = random.choice(len(tasks), QUESTIONS, p=share_K)
    skill_M = structure.skill * np.linspace(-0.6, 1.0, len(MODELS))
    strength_KM = structure.strength * random.standard_normal((len(tasks), len(MODELS)))
    easy_Q = random.normal(0.4, 1.5, QUESTIONS)
    chance_QM = 1 / (1 + np.exp(-(easy_Q[:, None] + skill_M + strength_KM[task_Q])))
    score_QM = (random.random(chance_QM.shape) < chance_QM).astype(float)
    cost_QM = PRICE_M * random.lognormal(0.0, 0.6, (QUESTIONS, 1))
    names = tuple(tasks[task] for task in task_Q)
    asked = tuple(f"{questions[name][number % len(questions[name])]}" for number, name in enumerate(names))
    return Outcomes(names, asked, MODELS, score_QM, cost_QM)


def gained(found: Backtest, name: str) -> str:
    gain = next((gain for each, gain in found.gains.items() if each.startswith(name)), None)
    if gain is None:  # costs are not known
        return "n/a"
    return f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"


def by_weight(outcomes: Outcomes, prices: Iterable[float] = PER_COST) -> Iterator[str]:
    """A row for every price of cost."""
    yield f"| `per_cost` | quality | dollars a question | {GAINS} |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for per_cost in prices:
        found = backtest(outcomes, RoutingSettings(per_cost=per_cost), inhouse=("own",))
        cells = [
            f"{per_cost:g}", f"{found.router.quality.mean:.3f}", f"{found.router.cost:.5f}",
            *(gained(found, name) for name in ("best single", "best mix", "matched")),
            f"{found.oracle_share.mean:.2f} ({found.oracle_share.low:.2f} to {found.oracle_share.high:.2f})",
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def of_others(files: list[Path], prices: Path | None, per_cost: Iterable[float]) -> Iterator[str]:
    outcomes = read_outcomes(files, read_prices(prices) if prices else ())
    names = ", ".join(
        f"{model} ({quality:.3f} at {cost:.5f} dollars)"
        for model, quality, cost in zip(
            outcomes.models, outcomes.score_QM.mean(0), outcomes.cost_QM.mean(0), strict=True
        )
    )
    about = f"{len(outcomes.tasks):,} questions of {len({*outcomes.tasks})} tasks; {names}."
    weights = " ".join(f"{price:g}" for price in per_cost)
    command = f"python bench/gateway_routing.py --files {files[0].name} … --prices FILE --per-cost {weights}"
    yield from ["# Routing by the table, on outcomes of others", "", f"`{command}`", "", about, ""]
    yield from by_weight(outcomes, per_cost)


def over_seeds(structure: Structure, questions: dict[str, list[str]]) -> str:
    """How often the intervals of the gains lie above zero, and below it, over draws of models and questions."""
    gains: dict[str, list[tuple[float, int, int]]] = {}
    shares = []
    for seed in range(SEEDS):
        found = backtest(made(structure, questions, seed), RoutingSettings(per_cost=1.0), inhouse=("own",))
        shares.append(found.oracle_share.mean)
        for name, gain in found.gains.items():
            row = (gain.mean, int(gain.low > 0), int(gain.high < 0))
            gains.setdefault(name.partition(" (")[0], []).append(row)
    cells = []
    for rows in gains.values():
        mean, above, below = np.array(rows).mean(0)
        cells.append(f"{mean:+.3f}; {above * SEEDS:.0f} above, {below * SEEDS:.0f} below")
    return " | ".join([*cells, f"{np.mean(shares):.2f}"])


def from_few(structure: Structure, questions: dict[str, list[str]]) -> str:
    """Quality less the best single model's where 64 questions a task fill the table, as a suite has them: the best at
    each task by the scores as they are, and by the pooled ones."""
    gains = []
    for seed in range(SEEDS):
        outcomes, random = made(structure, questions, seed), np.random.default_rng(seed)
        task_Q = np.array(outcomes.tasks)
        rows = {task: random.permutation(np.flatnonzero(task_Q == task)) for task in sorted({*outcomes.tasks})}
        table = Evidence(
            [
                Finding(task, model, "evaluations", share_of(float(score_Q.sum()), len(score_Q)), "")
                for task, at in rows.items()
                for model, score_Q in zip(MODELS, outcomes.score_QM[at[:FEW]].T, strict=True)
            ],
            WeightSettings(),
        )
        rest_QM = [outcomes.score_QM[at[FEW:]] for at in rows.values()]
        plain = [[finding.estimate.mean for finding in table.findings(task)] for task in rows]
        pooled = [[estimate.mean for estimate in table.quality(task, MODELS, 1).values()] for task in rows]
        single = np.concatenate(rest_QM).mean(0).max()
        gains.append([_picked(rest_QM, scores) - single for scores in (plain, pooled)])
    return " | ".join(f"{gain:+.3f}" for gain in np.mean(gains, axis=0))


def _picked(rest_QM: list[np.ndarray], scores: list[list[float]]) -> float:
    return float(np.concatenate([rest[:, np.argmax(row)] for rest, row in zip(rest_QM, scores, strict=True)]).mean())


def known_structure() -> Iterator[str]:
    questions = texts()
    one = made(STRUCTURES["models differ by task"], questions, seed=0)
    yield f"\n{QUESTIONS:,} questions, {len(MODELS)} models, one draw, the task of every question known:\n"
    yield from by_weight(one)
    guess = train(list(own_examples())).guess
    told = {text: guess(text).task for text in {*one.questions}}
    right = np.mean([told[text] == task for text, task in zip(one.questions, one.tasks, strict=True)])
    yield f"\nThe same, its task told by the classifier from the question ({right:.1%} right):\n"
    yield from by_weight(one._replace(tasks=tuple(told[text] for text in one.questions)))
    random = np.random.default_rng(1)
    wrong = random.random(QUESTIONS) < 0.2
    other = random.choice(list(questions), QUESTIONS)
    tasks = tuple(str(o) if w else t for t, o, w in zip(one.tasks, other, wrong, strict=True))
    yield "\nThe same, a fifth of all questions taken for a task at random:\n"
    yield from by_weight(one._replace(tasks=tasks))
    yield f"\nOver {SEEDS} draws, `per_cost` 1: the mean gain, and how many of {SEEDS} intervals exclude zero.\n"
    yield f"| structure | {GAINS} |"
    yield "| --- | --- | --- | --- | ---: |"
    for name, structure in STRUCTURES.items():
        yield f"| {name} | {over_seeds(structure, questions)} |"
    yield f"\nA table of {FEW} questions a task, the best at each task whatever it costs, over the best single model:\n"
    yield "| structure | scores as they are | pooled |"
    yield "| --- | ---: | ---: |"
    for name, structure in STRUCTURES.items():
        yield f"| {name} | {from_few(structure, questions)} |"


def told(labels: Path) -> Iterator[str]:
    """By task: how many requests, of how many the classifier is sure, and of how many of these it is right."""
    guess, confidence = train(list(own_examples())).guess, RoutingSettings().confidence
    counts: dict[str, Counter[str]] = {}
    for line in labels.read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        found = guess(label["text"])
        counts.setdefault(label["task"], Counter())[found.task if found.confidence >= confidence else ""] += 1
    yield "| task | requests | sure | right of these | taken for |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for task, found_as in sorted(counts.items()):
        sure = found_as.total() - found_as[""]
        wrong = ", ".join(f"{other} {n}" for other, n in found_as.most_common() if other not in ("", task))
        yield f"| {task} | {found_as.total():,} | {sure:,} | {found_as[task]:,} | {wrong} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", type=Path, help="outcomes of others instead")
    parser.add_argument("--prices", type=Path, help="what their models cost")
    parser.add_argument("--per-cost", nargs="+", type=float, default=PER_COST)
    parser.add_argument("--labels", type=Path, help="requests with their tasks instead, told by the classifier")
    parser.add_argument("--write", action="store_true", help="write the table into bench/results")
    options = parser.parse_args()
    name = "gateway_routing"
    if options.labels:
        print("\n".join(told(options.labels)))
        return
    if options.files:
        name += "-files"
        text = "\n".join([*of_others(options.files, options.prices, options.per_cost), ""])
    else:
        head = [
            "# Routing by the table",
            "",
            "`python bench/gateway_routing.py --write`",
            "",
            (__doc__ or "").split("\n")[0],
        ]
        text = "\n".join([*head, *known_structure(), ""])
    print(text)
    if options.write:
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
