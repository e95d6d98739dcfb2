"""The verb `ladder`: what a change of a recipe is worth at several sizes, and all that was found so far."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from inhouse.cli.options import Overrides, Recipe
from inhouse.cli.terminal import print_rich


class _RecipeOrShow(TyperGroup):
    """`inhouse ladder RECIPE …` climbs; only `show` is a word of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["climb", *args]
        return super().parse_args(ctx, args)


ladder = typer.Typer(
    no_args_is_help=True, cls=_RecipeOrShow, help="What a change of a recipe is worth: inhouse ladder RECIPE --try …"
)
Folder = Annotated[Path, typer.Option("--ladder", metavar="FOLDER", help="Where ladders and their ledger lie.")]


@ladder.command(hidden=True)
def climb(
    recipe: Recipe,
    tried: Annotated[
        list[str], typer.Option("--try", metavar="KEY=VALUE|NAME", help="What the candidate has: a key, an experiment.")
    ] = [],  # noqa: B006  (typer copies it)
    overrides: Overrides = [],  # noqa: B006
    also: Annotated[
        list[Path], typer.Option("--also", metavar="FOLDER", help="A second kind of text to climb on too.")
    ] = [],  # noqa: B006
    rungs: Annotated[int, typer.Option(help="How many sizes.")] = 4,
    seeds: Annotated[int, typer.Option(help="Runs of each recipe at each size.")] = 3,
    top: Annotated[int | None, typer.Option(min=1, help="Depth of the largest rung; default: the recipe's.")] = None,
    tokens_per_parameter: Annotated[
        float | None, typer.Option(min=1e-3, help="Per active parameter, at every rung; default: the recipe's own.")
    ] = None,
    max_epochs: Annotated[float, typer.Option(help="Refuse to pass over the text more often.")] = 4.0,
    side_by_side: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; default: one a core, on a GPU one.")
    ] = None,
    folder: Folder = Path("ladder"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained; train nothing.")] = False,
) -> None:
    """Train a recipe and the changed one at several sizes; say what the change is worth. Goes on where it stopped."""
    from inhouse.ladder.climb import climb as train_rungs
    from inhouse.ladder.plan import new_plan
    from inhouse.ladder.show import rungs_table, verdict
    from inhouse.recipe.ready import find_recipe

    path, length = find_recipe(recipe), tokens_per_parameter
    plan = new_plan(path, overrides, tried, also, rungs=rungs, seeds=seeds, top=top, per_parameter=length)
    print_rich(rungs_table(plan))
    if dry_run:
        return
    entry = train_rungs(plan, folder, side_by_side, max_epochs)
    for part in verdict(entry):
        print_rich(part)
    _write_page(folder)


@ladder.command()
def show(folder: Folder = Path("ladder")) -> None:
    """Print every ladder of the ledger, and its predictions; draw them in ladder.html."""
    from inhouse.ladder.ledger import read
    from inhouse.ladder.show import ledger_tables

    entries = read(folder)
    for part in ledger_tables(entries, folder):
        print_rich(part)
    if entries:
        _write_page(folder)


def _write_page(folder: Path) -> None:
    from inhouse.ladder.page import write_page

    print(f"drawn in {write_page(folder)}")
