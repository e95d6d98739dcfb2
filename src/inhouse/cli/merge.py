"""The verb `merge`."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    adapter: Annotated[Path, typer.Argument(help="A folder of adapters as PEFT writes it.")],
    output: Annotated[Path, typer.Argument(help="The model folder to write.")],
    base: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="What they are for; default: the folder that they name.")
    ] = None,
) -> None:
    """Merge adapters (LoRA) into the weights of their base: a model folder for chat, serve, eval and `[model] base`."""
    from inhouse.posttrain.lora.merged import merge_folder

    merge_folder(adapter, output, base)
    print(output)
