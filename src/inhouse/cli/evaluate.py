"""The verb `eval`."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.options import Dtype, with_settings
from inhouse.cli.terminal import warn_of_stale
from inhouse.evaluate.settings import EndpointSettings
from inhouse.providers.settings import LimitSettings

if TYPE_CHECKING:
    from inhouse.evaluate.score import Score
    from inhouse.evaluate.suite.suite import Suite


_OF_ENDPOINTS = (EndpointSettings, LimitSettings)


@with_settings(*_OF_ENDPOINTS)
def evaluate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL|URL", help="A run, an exported or Hugging Face folder; or an endpoint.")
    ],
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
    scores_file: Annotated[
        Path | None, typer.Option("--scores", metavar="FILE", help="Append a line a task to it, for routing.")
    ] = None,
    name: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Of an endpoint: which model.")] = None,
    face: Annotated[
        str | None, typer.Option(metavar="DIALECT", help="Of an endpoint: openai (the default), anthropic, gemini, …")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Of an endpoint: the environment variable with its key.")
    ] = None,
    *,
    settings: tuple[EndpointSettings, LimitSettings],
) -> None:
    """Measure a model: held-out problems of the kinds it was taught, bits per byte on the text held out in its run.

    With --suite: on tasks of one's own or ready ones; every answer is kept, and an interrupted evaluation goes on.
    """
    from inhouse.providers.address import is_address
    from inhouse.report.scores import score_lines

    is_endpoint = is_address(model)
    of_an_endpoint = {"--model": name, "--face": face, "--api-key-env": api_key_env}
    of_a_suite = {
        "--task": task, "--data": data, "--output": output, "--limit": limit, "--overlap": overlap,
        "--scores": scores_file,
    }  # fmt: skip
    if not is_endpoint:
        _refuse({**of_an_endpoint, **_given(context)}, "belongs to an endpoint; give its address instead of a folder")
        warn_of_stale(Path(model))
    if suite is None:
        if is_endpoint:
            raise ValueError("an endpoint is asked the tasks of a suite; name one with --suite, such as product")
        _refuse(of_a_suite, "belongs to a suite; name one with --suite")
        print("\n".join(score_lines(_own_scores(Path(model), env))))
        return
    if env:
        raise ValueError("--env asks problems of an environment, --suite those of its tasks; give one of the two")
    from inhouse.evaluate.suite.routing_scores import append_scores, read_lines
    from inhouse.evaluate.suite.suite import open_suite

    if scores_file is not None:
        read_lines(scores_file)  # what cannot be appended to is said before anything is asked
    opened = open_suite(suite, data, task or (), limit)
    if is_endpoint:
        opened_here = {"--overlap": overlap, "--dtype": dtype != "fp32"}
        _refuse(opened_here, "belongs to models that are opened here; an endpoint is only asked")
        folder, scores = _ask_endpoint((model, name, face or "openai", api_key_env), opened, output, settings)
    else:
        folder, scores = _ask_folder(Path(model), opened, output, dtype, overlap)
    if scores_file is not None:
        append_scores(scores_file, folder)
    print("\n".join(score_lines({name: score._asdict() for name, score in scores.items()})))
    print(f"every answer: {folder / 'answers.jsonl'}", file=sys.stderr)


def _refuse(options: dict[str, Any], why: str) -> None:
    if given := [name for name, value in options.items() if value]:
        raise ValueError(f"{given[0]} {why}")


def _given(context: typer.Context) -> dict[str, Any]:
    """The options of endpoints on this command line; of those in the environment, other commands may want them."""
    flags = {name: f"--{name.replace('_', '-')}" for kind in _OF_ENDPOINTS for name in kind.model_fields}
    flags["settings_file"] = "--settings"
    sources = {flag: context.get_parameter_source(name) for name, flag in flags.items()}
    return {flag: source is not None and source.name == "COMMANDLINE" for flag, source in sources.items()}


def _ask_folder(
    model: Path, suite: "Suite", output: Path | None, dtype: str, overlap: bool
) -> "tuple[Path, dict[str, Score]]":
    from inhouse.common.model_paths import model_name
    from inhouse.evaluate.suite.evaluate import evaluate_suite

    folder = output or Path("results") / model_name(model) / suite.name
    return folder, evaluate_suite(model, suite, folder, dtype, overlap)


def _ask_endpoint(
    who: tuple[str, str | None, str, str | None],
    suite: "Suite",
    output: Path | None,
    settings: tuple[EndpointSettings, LimitSettings],
) -> "tuple[Path, dict[str, Score]]":
    from inhouse.evaluate.suite.endpoint import Target, evaluate_endpoint
    from inhouse.providers.address import key_from

    url, model, face, variable = who
    if not model:
        raise ValueError("an endpoint serves several models; name one with --model")
    folder = output or Path("results") / re.sub(r"^\.+|[^\w.-]", "_", model) / suite.name
    scores, took = evaluate_endpoint(Target(url, model, face, key_from(variable)), suite, folder, *settings)
    is_priced = took.cost is not None or took.tokens_in is None
    hint = "" if is_priced else f" (no price of {model} for all of them: name a file that has one with --prices)"
    print(took.words + hint, file=sys.stderr)
    return folder, scores


def _own_scores(model: Path, env: list[str] | None) -> dict[str, dict[str, Any]]:
    from inhouse.common.model_paths import find_model, find_run
    from inhouse.environments.registry import check_name
    from inhouse.evaluate.settings import EvaluateSettings
    from inhouse.evaluate.stage import evaluate_model

    run, asked = find_run(model), tuple(map(check_name, env or ())) or None
    scores, _ = evaluate_model(EvaluateSettings(environments=asked), find_model(model), run and run / "data")
    return {name: score._asdict() for name, score in scores.items()}
