"""The verb `prefer`: a model learns from pairs of answers which one is better."""

from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.options import ModelPath, with_settings
from inhouse.rl.preference.settings import PreferenceSettings


@with_settings(PreferenceSettings)
def prefer(
    model: ModelPath,
    pairs: Annotated[
        list[Path], typer.Argument(metavar="PAIRS…", help="Files of prompt, chosen and rejected, or folders of them.")
    ],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The model folder to write.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the order of the pairs.")] = 1,
    *,
    settings: tuple[PreferenceSettings],
) -> None:
    """Tune a fine-tuned model on pairs of answers (DPO); goes on where it stopped."""
    from inhouse.common.model_paths import check_output, find_model
    from inhouse.rl.preference.tune import tune_on_pairs

    base = find_model(model)
    check_output(output, base, "checkpoints")
    tune_on_pairs(settings[0], base, pairs, output, seed)
    print(f"a tuned model is in {output}")
