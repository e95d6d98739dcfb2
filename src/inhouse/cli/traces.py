"""The verb `rl traces`: what climbs have learnt, as conversations for fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.options import with_settings
from inhouse.rl.consolidate.settings import TraceSettings


@with_settings(TraceSettings)
def traces(
    climbs: Annotated[list[Path], typer.Argument(metavar="CLIMB…", help="Runs that have climbed, or folders rl.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where a file for each climb is written.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the problems, and of what is sampled.")] = 1,
    *,
    settings: tuple[TraceSettings],
) -> None:
    """Sample answers across the checkpoints of climbs, and keep the right ones as conversations."""
    from inhouse.rl.consolidate.traces import sample_traces

    sample_traces(settings[0], climbs, output, seed)
    print(f'traces are in {output}: [sft] conversations = ["{output}"]')
