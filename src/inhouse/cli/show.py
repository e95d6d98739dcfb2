"""The verbs `data show` and `sft show`: what training will be given, before it is."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.options import Overrides, Recipe, Runs

data = typer.Typer(no_args_is_help=True, help="Look at the text that a recipe names.")
sft = typer.Typer(no_args_is_help=True, help="Look at what fine-tuning is given.")


@data.command("show")
def show_data(
    recipe: Recipe,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Documents of this source alone.")] = None,
    number: Annotated[int, typer.Option(min=1, help="How many documents.")] = 5,
    heldout: Annotated[bool, typer.Option("--heldout", help="Only what is held out.")] = False,
) -> None:
    """Print documents as the data stage will make them, and where they go; reads what it needs, writes nothing."""
    from rich.console import Console

    from inhouse.data.look import Look
    from inhouse.recipe.ready import find_recipe
    from inhouse.recipe.recipe import load_recipe
    from inhouse.report.documents import show_documents

    console = Console()
    for text in show_documents(Look(load_recipe(find_recipe(recipe), overrides).data, source), number, heldout):
        console.print(text, soft_wrap=True)


@sft.command("show")
def show_conversations(
    recipe: Recipe,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    number: Annotated[int, typer.Option(min=1, help="How many of each file and of each generated kind.")] = 3,
    file: Annotated[Path | None, typer.Option(help="Show this file of conversations alone.")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Print conversations as fine-tuning will see them, with what is trained on in colour; trains nothing."""
    from rich.console import Console

    from inhouse.common.model_paths import find_model
    from inhouse.data.tokenizer import Tokenizer
    from inhouse.posttrain.chat_template import CHAT_TEMPLATE
    from inhouse.posttrain.opened_model import read_chat_template
    from inhouse.posttrain.show import bytes_as_tokens, examples, rendered
    from inhouse.recipe.ready import find_recipe
    from inhouse.recipe.recipe import load_recipe

    loaded = load_recipe(find_recipe(recipe), overrides)
    run = runs / loaded.name
    folder = run / "tokenizer" if loaded.model.base is None else find_model(loaded.model.base)
    is_trained = (folder / "tokenizer.json").is_file()
    tokenizer = Tokenizer.load(folder) if is_trained else bytes_as_tokens()
    template = read_chat_template(folder) or CHAT_TEMPLATE
    if not is_trained:
        print(f"({run / 'tokenizer'} is not there yet: each byte counts as a token)", file=sys.stderr)
    console = Console()
    is_coloured = console.is_terminal and not console.no_color
    for example in examples(loaded.sft, run / "data", loaded.seed, number, file):
        console.print(rendered(example, tokenizer, is_coloured, template), soft_wrap=True)
