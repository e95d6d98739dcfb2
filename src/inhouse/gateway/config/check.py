"""What is checked when a gateway starts: keys that are there and of the right kind, contracts that last, providers that
answer. Of providers that were cut nothing is asked."""

import asyncio
import os
import socket
from collections.abc import Iterator, Set
from difflib import get_close_matches
from urllib.parse import urlsplit

from inhouse.common.model_paths import find_model
from inhouse.gateway.config.config import GatewayConfig, Provider
from inhouse.gateway.config.read import ConfigFile, Mistake, of_terms
from inhouse.gateway.contracts.settings import matches
from inhouse.gateway.routing.evidence_files import read_evidence
from inhouse.gateway.routing.prompts import own_examples, read_labels
from inhouse.gateway.settings import ADDRESSES
from inhouse.gateway.store.keys import PREFIX
from inhouse.providers.address import key_from
from inhouse.providers.any_llm import PREFIX as PREFIX_OF_ANY_LLM
from inhouse.providers.any_llm import check_any_llm
from inhouse.providers.http.transport import proxy_for
from inhouse.recipe.lines import Location

# what the keys of these makers begin with, the longer first
_KINDS = {"sk-ant-": "anthropic", "AIza": "gemini", "sk-": "openai", PREFIX: "this gateway's own"}


def check_start(file: ConfigFile, now: float, cut: Set[str] = frozenset()) -> None:
    """Raises `ValueError`, one line for every key that is missing or somebody else's, every run that is not there,
    every contract that is over, and every task that no request can have: what is said of it would never hold.
    Verbs that need none of this do without it: a key is revoked even where a run was deleted.

    `cut`: the providers that the store knows to be cut.
    """
    config = file.config
    found = [*_of_runs(config, cut), *_of_keys(config, cut), *of_terms(config, now, cut), *_of_tasks(config)]
    if found:
        raise ValueError("\n".join(file.lines(found)))


async def unreachable(file: ConfigFile, cut: Set[str] = frozenset()) -> list[str]:
    """One line for every provider to which there is no connection; nothing is sent."""
    wanted = [
        (number, each) for number, each in enumerate(file.config.provider) if each.address and each.name not in cut
    ]
    whys = await asyncio.gather(*(_why_unreachable(each) for _, each in wanted))
    return file.lines(
        (("provider", number, "url"), f'[provider] "{each.name}" cannot be reached at {each.address}: {why}')
        for (number, each), why in zip(wanted, whys, strict=True)
        if why is not None
    )


def _of_runs(config: GatewayConfig, cut: Set[str]) -> Iterator[Mistake]:
    for number, provider in enumerate(config.provider):
        if provider.run is not None and provider.name not in cut:
            try:
                find_model(provider.run)
            except ValueError as error:
                yield ("provider", number, "run"), f"[provider] run: {error}"


def _of_keys(config: GatewayConfig, cut: Set[str]) -> Iterator[Mistake]:
    for number, provider in enumerate(config.provider):
        if provider.name in cut:
            continue
        where = ("provider", number, "key_env")
        if provider.dialect.startswith(PREFIX_OF_ANY_LLM):
            try:
                check_any_llm(provider.dialect)
            except ValueError as error:
                yield ("provider", number, "dialect"), f'[provider] "{provider.name}": {error}'
        is_makers_own = provider.address is not None and provider.address == ADDRESSES.get(provider.dialect)
        if provider.key_env is None and is_makers_own:
            yield where, f'[provider] "{provider.name}" needs key_env: the environment variable with its key'
            continue
        try:
            key = key_from(provider.key_env)
        except ValueError as error:
            yield where, f'[provider] "{provider.name}": {error}'
            continue
        text = "" if key is None else key.get_secret_value()
        kind = next((kind for start, kind in _KINDS.items() if text.startswith(start)), None)
        if kind == _KINDS[PREFIX] or (is_makers_own and kind not in (None, provider.dialect)):
            yield where, f'[provider] "{provider.name}": {provider.key_env} holds a key of another kind: {kind}'


def _of_tasks(config: GatewayConfig) -> Iterator[Mistake]:
    named = [*_named_tasks(config)]
    known = _known_tasks(config) if named else set()
    for (*table, key), task in named:
        if not any(matches(task, each) for each in known):
            near = get_close_matches(task, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            name = ".".join(str(part) for part in table if isinstance(part, str))
            yield (*table, key), f'[{name}] {key} has "{task}", which no request can be: {hint}'


def _named_tasks(config: GatewayConfig) -> Iterator[tuple[Location, str]]:
    """Where a task, or the beginning of several with a *, is named."""
    for number, budget in enumerate(config.budget):
        if budget.task is not None:
            yield ("budget", number, "task"), budget.task
    for number, rollout in enumerate(config.rollout):
        yield ("rollout", number, "task"), rollout.task
    for number, provider in enumerate(config.provider):
        where: Location = ("provider", number, "terms")
        yield from (((*where, "may_serve"), task) for task in provider.terms.may_serve)
        yield from (((*where, "may_not_serve"), task) for task in provider.terms.may_not_serve)
        for place, part in enumerate(provider.terms.exclusive):
            yield from (((*where, "exclusive", place, "tasks"), task) for task in part.tasks)


def _known_tasks(config: GatewayConfig) -> set[str]:
    """Those that the classifier can tell, and those that something was measured at."""
    labels = config.routing.labels
    examples = [*own_examples(), *(read_labels(labels) if labels else ())]
    return {example.task for example in examples} | {*read_evidence(config.evidence).tasks}


async def _why_unreachable(provider: Provider) -> str | None:
    """Connects to the endpoint, or to the proxy of the environment that stands before it."""
    assert provider.address is not None
    seconds = provider.limits.connect_timeout
    try:
        host, port = _first_stop(provider.address)
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"connecting took longer than {seconds:g} s"
    except socket.gaierror:
        return f"nobody knows the name {host}"
    except (OSError, ValueError) as error:
        return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    writer.close()
    return None


def _first_stop(address: str) -> tuple[str, int]:
    stop = urlsplit(proxy_for(address)[0] or address)
    return stop.hostname or "", stop.port or (443 if stop.scheme == "https" else 80)
