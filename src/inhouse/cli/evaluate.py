"""The verb `eval`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inhouse.cli.options import Dtype, ModelPath
from inhouse.cli.terminal import warn_of_stale


def evaluate(
    model: ModelPath,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask problems of this environment, whatever it was taught.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Tasks instead: a .toml suite, a ready one, a .jsonl file.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of the suite, only this task.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the ready tasks' files lie.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of the results; default: results/MODEL/SUITE.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Of every task, only the first items.")] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Look for the items in the text that the model was trained on.")
    ] = False,
    dtype: Dtype = "fp32",
) -> None:
    """Measure a model: held-out problems of the kinds it was taught, bits per byte on the text held out in its run.

    With --suite: on tasks of one's own or ready ones; every answer is kept, and an interrupted evaluation goes on.
    """
    from inhouse.report.scores import score_lines

    warn_of_stale(model)
    of_a_suite = {"--task": task, "--data": data, "--output": output, "--limit": limit, "--overlap": overlap}
    if suite is None:
        if given := [name for name, value in of_a_suite.items() if value]:
            raise ValueError(f"{given[0]} belongs to a suite; name one with --suite")
        print("\n".join(score_lines(_own_scores(model, env))))
        return
    if env:
        raise ValueError("--env asks problems of an environment, --suite those of its tasks; give one of the two")
    from inhouse.common.model_paths import model_name
    from inhouse.evaluate.suite.evaluate import evaluate_suite
    from inhouse.evaluate.suite.suite import open_suite

    opened = open_suite(suite, data, task or (), limit)
    folder = output or Path("results") / model_name(model) / opened.name
    scores = evaluate_suite(model, opened, folder, dtype, overlap)
    print("\n".join(score_lines({name: score._asdict() for name, score in scores.items()})))
    print(f"every answer: {folder / 'answers.jsonl'}", file=sys.stderr)


def _own_scores(model: Path, env: list[str] | None) -> dict[str, dict[str, Any]]:
    from inhouse.common.model_paths import find_model, find_run
    from inhouse.environments.registry import check_name
    from inhouse.evaluate.settings import EvaluateSettings
    from inhouse.evaluate.stage import evaluate_model

    run, asked = find_run(model), tuple(map(check_name, env or ())) or None
    scores, _ = evaluate_model(EvaluateSettings(environments=asked), find_model(model), run and run / "data")
    return {name: score._asdict() for name, score in scores.items()}
