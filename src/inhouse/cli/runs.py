"""The verb `runs`: what there is, and what of it may go."""

from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.options import Runs
from inhouse.cli.terminal import agrees, print_rich

runs_app = typer.Typer(invoke_without_command=True)


@runs_app.callback()
def list_runs(context: typer.Context, runs: Runs = Path("runs")) -> None:
    """List the runs: how far each is, its size, what lies aside, what is stale. `prune` deletes what is told."""
    if context.invoked_subcommand is None:
        from inhouse.pipeline.runs import list_runs, runs_table

        print_rich(runs_table(list_runs(runs)))


@runs_app.command()
def prune(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run.")],
    runs: Runs = Path("runs"),
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Those of finished stages too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete what a run keeps aside: stages that were replaced, and begun ones with other settings."""
    from rich.filesize import decimal

    from inhouse.pipeline.runs import hold_for_pruning
    from inhouse.pipeline.runs import prune as delete

    with hold_for_pruning(runs / name, checkpoints) as found:
        if not found:
            print(f"{runs / name}: nothing lies aside")
            return
        print("\n".join(f"{decimal(size)}  {path}" for path, size in found))
        if not yes and not agrees("Delete these for good?"):
            raise ValueError("nothing was deleted; add --yes to delete without a question")
        delete([path for path, _ in found])
