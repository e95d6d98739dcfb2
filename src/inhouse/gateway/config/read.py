"""Reads gateway.toml: whatever does not fit is one sentence with its file and line, before anything listens."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from inhouse.common.files import read_json
from inhouse.common.model_paths import find_model
from inhouse.gateway.config.config import NOUN, GatewayConfig, Model, Provider
from inhouse.gateway.contracts.settings import mistakes as mistakes_of_terms
from inhouse.gateway.settings import parse_amount
from inhouse.gateway.spend.prices import price_table
from inhouse.recipe.errors import Positions, sentences
from inhouse.recipe.lines import Location, parse_toml

POSTGRES = ("postgresql://", "postgres://")

Mistake = tuple[Location, str]  # where it stands, and the sentence


class ConfigFile(NamedTuple):
    """A configuration, and where in its file everything stands: later checks say so too."""

    config: GatewayConfig
    positions: Positions

    def lines(self, mistakes: Iterable[Mistake]) -> list[str]:
        """Each as one line: file, line, sentence."""
        return [f"{self.positions.of(location)}: {sentence}" for location, sentence in mistakes]


def read_config(path: Path, now: Callable[[], float] = time.time) -> GatewayConfig:
    """The configuration of a file, with absolute paths, every model of one's own filled in, and all of it checked that
    needs neither keys nor a network. Raises `ValueError`, one line for every mistake."""
    return open_config(path, now).config


def open_config(path: Path, now: Callable[[], float] = time.time) -> ConfigFile:
    """The same, with the places in the file."""
    text, document = parse_toml(path)
    positions = Positions(GatewayConfig, path, text, document, noun=NOUN)
    try:
        config = GatewayConfig.model_validate(document)
    except ValidationError as error:
        raise ValueError(sentences(error, positions)) from error
    file = ConfigFile(_filled(config, path.resolve().parent), positions)
    if mistakes := file.lines(_mistakes(file.config, now())):
        raise ValueError("\n".join(mistakes))
    return file


def _filled(config: GatewayConfig, folder: Path) -> GatewayConfig:
    """With paths that do not depend on where the gateway is started, and models of one's own that were left out."""

    def absolute(path: Path) -> Path:
        return Path(os.path.abspath(folder / path.expanduser()))  # noqa: PTH100  (links stay as they are)

    def placed(value: Any) -> Any:
        if isinstance(value, Path):
            return absolute(value)
        if isinstance(value, tuple):
            return tuple(placed(part) for part in value)
        fields = getattr(type(value), "model_fields", None)
        return (
            value if fields is None else value.model_copy(update={key: placed(getattr(value, key)) for key in fields})
        )

    config = placed(config)
    store = config.store if config.store.startswith(POSTGRES) else str(absolute(Path(config.store)))
    return config.model_copy(update={"store": store, "provider": tuple(map(_with_model, config.provider))})


def _with_model(provider: Provider) -> Provider:
    """A model of one's own is called as its provider, and has the context that its folder says, where nothing else is
    said."""
    if not provider.is_inhouse or len(provider.model) > 1:
        return provider
    (model,) = provider.model or (Model(name=provider.name),)
    if model.context is None and provider.run is not None:
        model = model.model_copy(update={"context": _context(provider.run)})
    return provider.model_copy(update={"model": (model,)})


def _context(run: Path) -> int | None:
    try:
        said = read_json(find_model(run) / "config.json").get("max_position_embeddings")
    except (ValueError, OSError):  # said where its folder is checked, and when it is started
        return None
    return said if isinstance(said, int) and said > 0 else None


def _mistakes(config: GatewayConfig, now: float) -> Iterator[Mistake]:
    """What no table can know by itself."""
    yield from _of_names(config)
    yield from _of_store(config)
    yield from _of_budgets(config)
    yield from _of_plans(config)
    yield from _of_routing(config)
    yield from of_terms(config, now, {provider.name for provider in config.provider})  # ended ones: `check`
    for number, provider in enumerate(config.provider):
        yield from _of_provider(number, provider)
        yield from _of_prices(config.currency, number, provider, now)


def _of_names(config: GatewayConfig) -> Iterator[Mistake]:
    providers = [provider.name for provider in config.provider]
    teams = [team.name for team in config.team]
    for table, names in (("provider", providers), ("team", teams)):
        for number, name in enumerate(names):
            if name in names[:number]:
                yield (table, number, "name"), f'[{table}] name: there is a {table} "{name}" already'
    known = sorted({target.model for target in config.targets()})
    if config.default not in known:
        yield ("default",), f'default = "{config.default}": no provider has this model; there are {_listed(known)}'
    for asked, others in config.routing.fallbacks.items():
        for name in (asked, *others):
            if name not in known:
                where = ("routing", "fallbacks", asked)
                yield where, f'[routing] fallbacks: no provider has a model "{name}"; there are {_listed(known)}'


def _of_plans(config: GatewayConfig) -> Iterator[Mistake]:
    """Drills and roll-outs of what there is, one a task."""
    known, providers = {target.model for target in config.targets()}, config.providers()
    for number, drill in enumerate(config.drill):
        if drill.provider not in providers:
            where = ("drill", number, "provider")
            yield where, f'[drill] provider = "{drill.provider}": there is none; there are {_listed(sorted(providers))}'
    tasks: set[str] = set()
    for number, rollout in enumerate(config.rollout):
        if rollout.model not in known:
            where = ("rollout", number, "model")
            yield where, f'[rollout] no provider has a model "{rollout.model}"; there are {_listed(sorted(known))}'
        if rollout.task in tasks:
            yield ("rollout", number, "task"), f'[rollout] task "{rollout.task}" is rolled out already; keep one'
        tasks.add(rollout.task)


def _of_routing(config: GatewayConfig) -> Iterator[Mistake]:
    """Where requests may be computed, somebody computes."""
    regions = {provider.region for provider in config.provider if provider.region}
    for region in config.routing.regions:
        if region not in regions:
            known = f"there are {_listed(sorted(regions))}" if regions else "no provider has a region"
            yield ("routing", "regions"), f'[routing] regions: no provider computes in "{region}"; {known}'


def _of_store(config: GatewayConfig) -> Iterator[Mistake]:
    if not config.store.startswith(POSTGRES):
        if "://" in config.store:
            yield ("store",), f'store = "{config.store}": give the name of a file, or postgresql://…'
    elif ":" in config.store.split("://", 1)[1].rpartition("@")[0]:
        yield ("store",), "store: a password stands in the address; leave it out and set PGPASSWORD (or use ~/.pgpass)"


def _of_budgets(config: GatewayConfig) -> Iterator[Mistake]:
    """Two for the same calls and time contradict each other; a month's beside a day's do not."""
    teams = {team.name for team in config.team}
    seen: dict[tuple[object, ...], int] = {}
    for number, budget in enumerate(config.budget):
        if budget.team is not None and budget.team not in teams:
            where: Location = ("budget", number, "team")
            yield where, f'[budget] team = "{budget.team}": there is no [[team]] of this name; {_teams(teams)}'
        period = parse_amount(budget.amount).period
        first = seen.setdefault((budget.team, budget.key, budget.task, period), number)
        if first != number:
            other = config.budget[first].amount
            yield (
                ("budget", number),
                f"[budget] {budget.amount} overlaps an earlier budget of {other} for the same calls; keep one of them",
            )


def _teams(teams: set[str]) -> str:
    return f"there are {_listed(sorted(teams))}" if teams else 'write [[team]] with name = "…"'


def of_terms(config: GatewayConfig, now: float, cut: Set[str]) -> Iterator[Mistake]:
    """Contracts that contradict each other, and those that have ended, but for providers that are `cut` already."""
    numbers = {provider.name: number for number, provider in enumerate(config.provider)}
    for mistake in mistakes_of_terms(config.terms(), now, cut):
        yield ("provider", numbers[mistake.provider], *mistake.keys), f"[provider.terms] {mistake.sentence}"


def _of_provider(number: int, provider: Provider) -> Iterator[Mistake]:
    where: Location = ("provider", number)
    if not provider.model:
        yield where, f'[provider] "{provider.name}" has no model: write [[provider.model]] with name = "…"'
    if provider.is_inhouse and len(provider.model) > 1:
        yield (
            (*where, "model", 1),
            f'[provider] "{provider.name}": a run serves one model; give the other its own provider',
        )


def _of_prices(currency: str, number: int, provider: Provider, now: float) -> Iterator[Mistake]:
    """Target by target, so that each sentence has its line."""
    for place, (target, model) in enumerate(zip(provider.targets(), provider.model, strict=True)):
        alone = provider.model_copy(update={"model": (model,)})
        try:
            price_table(currency, [alone], {target: model.price}, now)
        except ValueError as error:
            yield ("provider", number, "model", place), str(error)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
