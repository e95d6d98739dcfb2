"""What the verbs of `gateway` share: which gateway, lists, times, and a store that is open for one verb."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from inhouse.gateway.administration import Administration

T = TypeVar("T")
DEFAULT = Path("gateway.toml")
Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The gateway's configuration.")]
Since = Annotated[str | None, typer.Option(metavar="DATE", help="From this day or time on, in UTC.")]
Until = Annotated[str | None, typer.Option(metavar="DATE", help="Before this day or time.")]


def in_store(config: Path, work: "Callable[[Administration], Awaitable[T]]") -> T:
    """What `work` gives, with the gateway's store open; a gateway that runs on it goes on."""
    from inhouse.gateway.administration import administration

    async def run() -> T:
        async with administration(config) as administered:
            return await work(administered)

    return asyncio.run(run())


def listed(text: str | None) -> tuple[str, ...]:
    """The parts of `a,b,c`."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def seconds(option: str, text: str | None, default: float) -> float:
    """A day or time as seconds since 1970. Raises `ValueError` naming the option."""
    from inhouse.gateway.contracts.instants import read_instant

    if text is None:
        return default
    try:
        return read_instant(text).timestamp()
    except ValueError as error:
        raise ValueError(f'{option} "{text[:40]}": {error}') from None
