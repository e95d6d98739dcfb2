"""The verbs about who answers: a choice explained, a provider ended or its end rehearsed, drills, other weights."""

import json
from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.gateway.options import DEFAULT, Config, in_store, seconds
from inhouse.cli.terminal import print_rich

Weight = Annotated[float | None, typer.Option(min=0, help="Default: the configuration's.")]


def route(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What would be asked.")],
    config: Config = DEFAULT,
    model: Annotated[str, typer.Option(help="What the request would name: a model, auto or auto:TASK.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say who would answer a prompt: the task, the candidates, their scores, who is chosen, why. Nobody is asked."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.rehearsing import decision_for
    from inhouse.gateway.routing.explain import as_json as decision_json
    from inhouse.gateway.routing.explain import lines

    async def work(store: Administration) -> None:
        decision = await decision_for(store, prompt, model)
        print(json.dumps(decision_json(decision)) if as_json else "\n".join(lines(decision, store.config.currency)))

    in_store(config, work)


def cut(
    provider: Annotated[str | None, typer.Argument(metavar="PROVIDER", help="Who is ended.")] = None,
    config: Config = DEFAULT,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When, in UTC; default: now.")] = None,
    reason: Annotated[str, typer.Option(help="For the audit log.")] = "",
    grace: Annotated[
        float | None, typer.Option(min=0, max=3600, help="Seconds for streams under way; default: the contract's.")
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Declare it: whoever's contract ends on it is cut at once.")
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Say what would move where, and what it costs; cut nobody.")
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Take a cut back.")] = False,
) -> None:
    """End a provider: no new call goes there, streams under way finish or move, its key is forgotten."""
    if (provider is None) == (event is None) or (lift and rehearse) or (event is not None and (lift or rehearse)):
        raise ValueError("name a provider, with --rehearse or --lift where that is meant, or an --event alone")
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.cutting import cut_lines, declare_lines, lift_lines

    when = None if at is None else seconds("--at", at, 0.0)

    async def work(store: Administration) -> None:
        if rehearse:
            from inhouse.gateway.contracts.rehearsal_text import rehearsal_text
            from inhouse.gateway.rehearsing import rehearsal_of

            print(rehearsal_text(await rehearsal_of(store, provider or "", when), store.config.currency))
        elif event is not None:
            print("\n".join(await declare_lines(store, event)))
        elif lift:
            print("\n".join(await lift_lines(store, provider or "")))
        else:
            print("\n".join(await cut_lines(store, provider or "", when, reason, grace)))

    in_store(config, work)


def drill(config: Config = DEFAULT) -> None:
    """List the drills that [[drill]] schedules and what came of them."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.rehearsing import drills_of
    from inhouse.gateway.tables import drills_table

    async def work(store: Administration) -> None:
        print_rich(drills_table(await drills_of(store).results()))

    in_store(config, work)


def backtest(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Outcomes, as docs/routing.md says; none: the ledger's calls.")
    ] = [],  # noqa: B006  (typer copies it)
    config: Config = DEFAULT,
    per_cost: Weight = None,
    per_second: Weight = None,
    margin: Weight = None,
) -> None:
    """Choose again under other weights: quality, cost and shares, beside the best single model and the oracle."""
    from inhouse.gateway.administration import Administration
    from inhouse.gateway.rehearsing import backtest_lines

    given = {"per_cost": per_cost, "per_second": per_second, "margin": margin}

    async def work(store: Administration) -> None:
        weights = store.config.routing.model_copy(
            update={key: value for key, value in given.items() if value is not None}
        )
        print("\n".join(await backtest_lines(store, files, weights)))

    in_store(config, work)
