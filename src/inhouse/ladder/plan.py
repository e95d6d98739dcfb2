"""What a ladder will train: two recipes, the text, the sizes, the seeds; known and checked before anything runs."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.lineage import digest_of
from inhouse.data.settings import Source
from inhouse.ladder.experiments import EXPERIMENTS
from inhouse.ladder.rungs import Rung, check_recipe, depths, rung, tokens_per_parameter
from inhouse.pipeline.identity import result_settings
from inhouse.recipe.recipe import Recipe, load_recipe

BASELINE, CANDIDATE = "baseline", "candidate"
_LENGTH = ("pretrain.tokens", "pretrain.tokens_per_parameter")
FEWEST_RUNGS = 3  # a law has three parameters
MOST_SEEDS = 100


class Arm(NamedTuple):
    """One of the two recipes. `rungs` are those of a seed, the smallest first."""

    name: str
    recipe: Recipe
    experiments: tuple[str, ...]
    shares: tuple[float, ...]  # of the recipe's own depth
    per_parameter: float

    def rungs(self, seed: int) -> list[Rung]:
        return [rung(self.recipe, share, self.per_parameter, seed) for share in self.shares]


class Plan(NamedTuple):
    """A ladder: both arms on each corpus, at every depth (the baseline's), with every seed."""

    name: str
    tried: tuple[str, ...]
    corpora: dict[str, tuple[Arm, Arm]]
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    per_parameter: float

    @property
    def id(self) -> str:
        """The same for the same ladder, started anew."""
        arms = {
            corpus: [[arm.recipe.model_dump(mode="json"), arm.experiments, arm.per_parameter] for arm in both]
            for corpus, both in self.corpora.items()
        }
        return digest_of([arms, self.tried, self.depths, self.seeds]).removeprefix("sha256:")[:12]


def new_plan(
    path: Path,
    overrides: Sequence[str],
    tried: Sequence[str],
    also: Sequence[Path] = (),
    *,
    rungs: int = 4,
    seeds: int = 3,
    top: int | None = None,
    per_parameter: float | None = None,
) -> Plan:
    """The ladder of the recipe in `path` with `overrides`, and what is `tried` together: `key=value`s and experiments.

    `also` are folders or files of text to climb the same ladder on; `top` is the depth of the largest rung, by default
    the recipe's. Raises `ValueError` with a sentence for what does not fit.
    """
    if rungs < FEWEST_RUNGS:
        raise ValueError(f"--rungs {rungs}: a law of three parameters is fitted, so {FEWEST_RUNGS} is the fewest")
    if not 1 <= seeds <= MOST_SEEDS:
        raise ValueError(f"--seeds {seeds}: at least one, and at most {MOST_SEEDS}")
    if per_parameter is not None and not 0 < per_parameter < math.inf:
        raise ValueError(f"--tokens-per-parameter {per_parameter:g}: a number above 0")
    values, experiments = _split(tried)
    baseline = load_recipe(path, overrides)
    changed = load_recipe(path, [*overrides, *values])
    for recipe in (baseline, changed):
        check_recipe(recipe)
        if experiments and recipe.parallel.processes > 1:
            raise ValueError(
                f"--try {experiments[0]}: an experiment changes training in one process, and [parallel] asks for "
                f"{recipe.parallel.processes}; leave [parallel] out"
            )
    if not experiments and changed == baseline:
        raise ValueError(f"--try {', '.join(tried)}: this is what the recipe has already; try another value")
    if result_settings(changed.evaluate) != result_settings(baseline.evaluate):
        raise ValueError("--try evaluate.…: both losses are measured in one way; --set evaluate.… is for both recipes")
    own = baseline.model.depth_and_width()[0]
    chosen = depths(top or own, rungs)
    shares = tuple(depth / own for depth in chosen)
    length = per_parameter or tokens_per_parameter(baseline)
    its_own = any(value.partition("=")[0].strip() in _LENGTH for value in values)
    theirs = tokens_per_parameter(changed) if its_own else length
    arms = (
        Arm(BASELINE, baseline, (), shares, length),
        Arm(CANDIDATE, changed, tuple(experiments), shares, theirs),
    )
    corpora = {"+".join(source.name for source in baseline.data.sources): arms}
    for text in also:
        source = _source(text)
        if source.name in corpora:
            raise ValueError(f"--also {text}: a corpus is called {source.name} already; give the folder another name")
        corpora[source.name] = (_on(arms[0], source), _on(arms[1], source))
    plan = Plan(baseline.name, tuple(tried), corpora, tuple(chosen), tuple(range(1, seeds + 1)), length)
    for both in corpora.values():
        chosen_rungs = [arm.rungs(1) for arm in both]  # whose numbers fit together, or are refused
        if not experiments:
            _check_difference(*chosen_rungs)
    return plan


def _check_difference(baseline: list[Rung], candidate: list[Rung]) -> None:
    """Raises `ValueError` where a rung of both would be one and the same run."""
    pairs = zip(baseline, candidate, strict=True)
    same = [ours.config.num_layers for ours, theirs in pairs if _of(ours) == _of(theirs)]
    if not same:
        return
    if len(same) == len(baseline):
        raise ValueError("what is tried changes nothing that a ladder trains: both recipes would be the same runs")
    raise ValueError(
        f"what is tried changes nothing at a depth of {', '.join(map(str, same))}, where both recipes are the same; "
        "ask for fewer --rungs, or give a larger --top, the depth of the largest"
    )


def _of(rung: Rung) -> list[Any]:
    recipe = rung.recipe
    parts = (recipe.data, recipe.tokenizer, recipe.model, recipe.pretrain)
    return [rung.config, recipe.parallel, *map(result_settings, parts)]


def _split(tried: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys of the recipe with their values, and names of experiments."""
    if not tried:
        raise ValueError(f"nothing to try: give --try key=value, or --try with one of {', '.join(EXPERIMENTS)}")
    values = [text for text in tried if "=" in text]
    names = [text for text in tried if "=" not in text]
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        raise ValueError(f"--try {unknown[0]}: no such experiment; write key=value, or one of {', '.join(EXPERIMENTS)}")
    for number, name in enumerate(names):
        if other := next((each for each in names[:number] if _what(each) == _what(name)), None):
            raise ValueError(f"--try {other} and --try {name} both change {_what(name)}; try one of them")
    return values, names


def _what(experiment: str) -> str:
    return EXPERIMENTS[experiment].what


def _source(text: Path) -> Source:
    if not text.exists():
        raise ValueError(f"--also {text}: does not exist; give a folder or a file of text")
    name = re.sub(r"[^\w.-]", "-", text.resolve().stem) or "also"
    return Source(path=str(text.resolve()), name=name)


def _on(arm: Arm, source: Source) -> Arm:
    data = arm.recipe.data.model_copy(update={"sources": (source,)})
    return arm._replace(recipe=arm.recipe.model_copy(update={"data": data}))
