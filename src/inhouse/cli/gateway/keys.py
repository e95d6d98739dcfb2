"""The verbs of `gateway keys`: who may ask, for what, how much."""

from typing import Annotated

import typer

from inhouse.cli.gateway.options import DEFAULT, Config, in_store, listed
from inhouse.cli.terminal import print_rich

keys = typer.Typer(no_args_is_help=True, help="Keys of the gateway: create, list, revoke, rotate.")
MOST = 2**31 - 1
Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, by which the ledger counts.")]


@keys.command()
def create(
    name: Name,
    config: Config = DEFAULT,
    team: Annotated[str | None, typer.Option(help="Whose it is; default: a team of the key's name.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Of the key itself: 50/month, 2/day.")] = None,
    models: Annotated[str | None, typer.Option(metavar="A,B", help="That it may ask for; default: all.")] = None,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="That it may be used for; default: all.")] = None,
    faces: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Of chat, completions, responses, embeddings, messages; default: all."),
    ] = None,
    groups: Annotated[str | None, typer.Option(metavar="A,B", help="Of early access, beside its team's.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, max=MOST, help="Of the key itself.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, max=MOST, help="Of the key itself.")] = None,
    keep_content_days: Annotated[int, typer.Option(min=0, help="Store prompts and answers for so long.")] = 0,
    admin: Annotated[bool, typer.Option("--admin", help="It may administer the gateway over HTTP.")] = False,
) -> None:
    """Create a key and print it, this once."""
    from inhouse.gateway.administration import Administration, new_caller
    from inhouse.gateway.settings import QuotaSettings

    async def work(store: Administration) -> str:
        caller = new_caller(
            store.config, name, team=team, budget=budget, models=listed(models), tasks=listed(tasks),
            faces=listed(faces), groups=listed(groups), keep_content_days=keep_content_days, is_admin=admin,
            quota=QuotaSettings(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute),
        )  # fmt: skip
        return await store.keys.create(caller, store.by)

    print(in_store(config, work))


@keys.command("list")
def list_keys(config: Config = DEFAULT) -> None:
    """List the keys and their rights; the keys themselves nobody can read again."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.store.keys import Key
    from inhouse.gateway.tables import keys_table

    async def work(store: Administration) -> list[Key]:
        return await store.keys.all()

    print_rich(keys_table(in_store(config, work)))


@keys.command()
def revoke(name: Name, config: Config = DEFAULT) -> None:
    """Let a key work no more: here at once, at every replica within a second."""
    from inhouse.gateway.administration import Administration

    async def work(store: Administration) -> None:
        await store.keys.revoke(name, store.by)

    in_store(config, work)
    print(f"{name} is revoked")


@keys.command()
def rotate(
    name: Name,
    config: Config = DEFAULT,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for which the old one works on.")] = 0.0,
) -> None:
    """Print a new key with the same rights and the same name."""
    from inhouse.gateway.administration import Administration

    async def work(store: Administration) -> str:
        return await store.keys.rotate(name, store.by, grace)

    print(in_store(config, work))
