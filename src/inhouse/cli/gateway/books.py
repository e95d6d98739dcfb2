"""The verbs that read the gateway's books: what was spent, the audit log, a provider's bill against the ledger."""

from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.gateway.options import DEFAULT, Config, Since, Until, in_store, listed, seconds
from inhouse.cli.terminal import print_rich


def spend(
    config: Config = DEFAULT,
    by: Annotated[
        str, typer.Option(metavar="A,B", help="Sums by team, key, task, provider, model and day, in this order.")
    ] = "team",
    since: Since = None,
    until: Until = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every attempt to a .csv or .parquet file.")
    ] = None,
) -> None:
    """Print what was spent; where a provider has not said it, between which bounds it lies."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.spend.export import export as write
    from inhouse.gateway.spend.report import LATEST, spending
    from inhouse.gateway.tables import spending_table

    span = seconds("--since", since, 0.0), seconds("--until", until, LATEST)

    async def work(store: Administration) -> None:
        groups = listed(by)
        print_rich(spending_table(await spending(store.db, groups, *span), groups, store.config.currency))
        if export is not None:
            print(f"{await write(store.db, export, *span):,} attempts are in {export}")

    in_store(config, work)


def audit(
    config: Config = DEFAULT,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look for what was changed, taken out, put in, moved.")
    ] = False,
    head: Annotated[
        list[Path], typer.Option("--head", metavar="FILE", help="With --verify: the heads of other replicas too.")
    ] = [],  # noqa: B006  (typer copies it)
    last: Annotated[int, typer.Option(min=1, help="How many entries to print.")] = 20,
) -> None:
    """Print the newest entries of the audit log: who administered what, who looked at stored content."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.tables import audit_line

    async def work(store: Administration) -> None:
        if verify:
            if findings := await store.audit.verify(head):
                raise ValueError("\n".join(findings))
            print("the audit log is as it was written")
            return
        for entry in await store.audit.entries(last):
            print(audit_line(entry.body))

    in_store(config, work)


def reconcile(
    bill: Annotated[Path, typer.Argument(metavar="BILL", help="CSV or JSON Lines, as docs/spend.md says.")],
    provider: Annotated[str, typer.Option(help="Whose bill it is.")],
    config: Config = DEFAULT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare; settle nothing.")] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="The bill names all of its days: what is not on it cost nothing.")
    ] = False,
) -> None:
    """Compare a provider's bill with the ledger: estimates become exact, what does not agree is listed."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.spend.bill import read_bill
    from inhouse.gateway.spend.reconcile import reconcile as compare
    from inhouse.gateway.tables import reconciliation_lines

    async def work(store: Administration) -> None:
        if provider not in store.config.providers():
            raise ValueError(f"--provider {provider}: there are {', '.join(store.config.providers())}")
        found = await compare(store.db, read_bill(bill, store.config.currency), provider, dry_run, complete)
        print("\n".join(reconciliation_lines(found, store.config.currency)))

    in_store(config, work)
