"""The verb `eval`."""

from typing import Annotated

import typer

from inhouse.cli.options import ModelPath
from inhouse.cli.terminal import warn_of_stale


def evaluate(
    model: ModelPath,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask problems of this environment, whatever it was taught.")
    ] = None,
) -> None:
    """Measure a model: held-out problems of the kinds it was taught, bits per byte on the text held out in its run."""
    from inhouse.common.model_paths import find_model, find_run
    from inhouse.environments.registry import check_name
    from inhouse.evaluate.settings import EvaluateSettings
    from inhouse.evaluate.stage import evaluate_model
    from inhouse.report.scores import score_lines

    warn_of_stale(model)
    run, asked = find_run(model), tuple(map(check_name, env or ())) or None
    scores, _ = evaluate_model(EvaluateSettings(environments=asked), find_model(model), run and run / "data")
    print("\n".join(score_lines({name: score._asdict() for name, score in scores.items()})))
