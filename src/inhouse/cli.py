"""The verbs: parse, call the library, print. Heavy imports stand inside the verb that needs them."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inhouse.options import Dtype, ModelPath, Output, write_manifest
from inhouse.serving import serve, warn_of_stale

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data = typer.Typer(no_args_is_help=True, help="Look at the text that a recipe names.")
app.add_typer(data, name="data")
sft = typer.Typer(no_args_is_help=True, help="Look at what fine-tuning is given.")
app.add_typer(sft, name="sft")
USER_ERROR, INTERNAL_ERROR = 2, 1

Overrides = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"inhouse {version('inhouse')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """From text files to a model of one's own: trained, evaluated, exported and served."""


@app.command()
def make(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a ready recipe.")],
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    anew: Annotated[
        list[str], typer.Option(metavar="STAGE", help="Make this stage anew, and what depends on it.")
    ] = [],  # noqa: B006  (typer copies it)
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every number and its rule; run nothing.")] = False,
    runs: Annotated[Path, typer.Option(help="The folder of all runs.")] = Path("runs"),
    emit: Annotated[
        str | None, typer.Option(metavar="slurm|kubernetes", help="Print the job for a cluster; run nothing.")
    ] = None,
    output: Output = None,
    profile: Annotated[
        str | None, typer.Option(metavar="step=FIRST:LAST", help="Trace these steps of pretraining, as step=100:105.")
    ] = None,
) -> None:
    """Carry out a recipe: text in, a trained, evaluated and exported model out. Goes on where it was stopped."""
    from inhouse.recipe.ready import find_recipe
    from inhouse.recipe.recipe import load_recipe

    _check_make(until, dry_run, emit, output)
    path = find_recipe(recipe)
    profiled = [] if profile is None else [_profiled(profile)]
    loaded = load_recipe(path, [*overrides, *profiled], reads_here=emit is None)
    if emit is not None:
        from inhouse.jobs.emit import job_for
        from inhouse.jobs.job import Job

        job = Job(loaded.name, loaded.parallel.processes, loaded.cluster, path, overrides, runs, _carried(context))
        write_manifest(job_for(emit, job), output)
        return
    from inhouse.pipeline.changes import holds_text
    from inhouse.recipe.notes import notes
    from inhouse.recipe.passes import passes_over_text

    run = runs / loaded.name
    passes = passes_over_text(loaded, run, holds_text(loaded, run))
    if os.environ.get("RANK", "0") == "0":
        for line in notes(loaded, passes):
            print(f"note: {line}", file=sys.stderr)
    if dry_run:
        from inhouse.recipe.derived import all_numbers, table

        _print_rich(table(all_numbers(loaded, passes)))
        return
    from inhouse.pipeline.runner import make as run_recipe
    from inhouse.report.summary import summary

    if run_recipe(loaded, runs, until, anew=anew, agrees=_agrees):
        print(summary(run))


_OF_THE_JOB = {"recipe", "overrides", "runs", "emit", "output"}  # which a job's script writes itself


def _check_make(until: str | None, dry_run: bool, emit: str | None, output: Path | None) -> None:
    """Refuse options of `make` that do not go together, before anything is read."""
    from inhouse.common.lineage import POSSIBLE_STAGES

    if output is not None and emit is None:
        raise ValueError(f"--output {output} belongs to --emit slurm or --emit kubernetes; add that")
    if dry_run and emit is not None:
        raise ValueError("--dry-run and --emit each print something else; give one of them")
    if until is not None and until not in POSSIBLE_STAGES:
        raise ValueError(f"--until {until}: no such stage; the stages are {', '.join(POSSIBLE_STAGES)}")


def _profiled(window: str) -> str:
    """The override that `--profile` stands for."""
    key, _, steps = window.partition("=")
    if key != "step" or not steps:
        raise ValueError(f"--profile {window}: write it as step=FIRST:LAST, for example --profile step=100:105")
    return f"pretrain.profile={steps}"


def _carried(context: typer.Context) -> list[str]:
    """The options of this command, and those before it, that its job is started with as well."""
    carried: list[str] = []
    for at in (context.parent, context):
        assert at is not None
        for option in at.command.params:
            value = at.params.get(option.name or "")
            if option.name in _OF_THE_JOB or value is None or value is False:
                continue
            flag = max(option.opts, key=len)
            for each in value if isinstance(value, list | tuple) else [value]:
                carried += [flag] if each is True else [flag, str(each)]
    return carried


list_app = typer.Typer(invoke_without_command=True)
app.add_typer(list_app, name="runs")
Runs = Annotated[Path, typer.Option(help="The folder of all runs.")]


@list_app.callback()
def list_runs(context: typer.Context, runs: Runs = Path("runs")) -> None:
    """List the runs: how far each is, its size, what lies aside, what is stale. `prune` deletes what is told."""
    if context.invoked_subcommand is None:
        from inhouse.pipeline.runs import list_runs, runs_table

        _print_rich(runs_table(list_runs(runs)))


@list_app.command()
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
        if not yes and not _agrees("Delete these for good?"):
            raise ValueError("nothing was deleted; add --yes to delete without a question")
        delete([path for path, _ in found])


@app.command()
def chat(
    model: ModelPath,
    prompt: Annotated[str | None, typer.Option(help="Ask this one thing, print the answer and end.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="For the same answer again at a temperature above 0.")] = None,
    dtype: Dtype = "auto",
) -> None:
    """Talk to a model. A base model, which knows no turns, goes on from the text instead."""
    from inhouse.chat import Model
    from inhouse.engine.request import SamplingParams

    warn_of_stale(model)
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    opened = Model.load(model, dtype)
    if opened.chat_template is None and (prompt is not None or not sys.stdin.isatty()):
        print("(a base model without a chat template: it goes on from your text)", file=sys.stderr)
    if prompt is not None:
        _print_stream(opened.stream(prompt, params))
        return
    if sys.stdin.isatty():
        print(_opening(model, opened.chat_template is not None), file=sys.stderr)
    messages: list[dict[str, Any]] = []
    while (line := _ask()) is not None:
        messages = opened.recent([*messages, {"role": "user", "content": line}], max_tokens)
        said = _print_stream(opened.stream(messages, params))
        messages.append({"role": "assistant", "content": said})


app.command()(serve)


@app.command("eval")
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


@data.command("show")
def show_data(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a ready recipe.")],
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
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a ready recipe.")],
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    number: Annotated[int, typer.Option(min=1, help="How many of each file and of each generated kind.")] = 3,
    file: Annotated[Path | None, typer.Option(help="Show this file of conversations alone.")] = None,
    runs: Annotated[Path, typer.Option(help="The folder of all runs.")] = Path("runs"),
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


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a ready recipe.")],
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Rehearse one training step; needs no GPU.")] = False,
    world: Annotated[int | None, typer.Option(min=1, help="Processes; default: what [parallel] asks for.")] = None,
) -> None:
    """What a recipe takes on many machines, without them: bytes that a process holds, and every collective."""
    if not dry_run:
        raise ValueError("plan knows one thing so far: add --dry-run to rehearse a training step")
    from inhouse.checkpoint.shape import resolve_shape
    from inhouse.plan.dry_run import dry_run as rehearse
    from inhouse.plan.table import tables
    from inhouse.recipe.ready import find_recipe
    from inhouse.recipe.recipe import load_recipe

    loaded = load_recipe(find_recipe(recipe), overrides, reads_here=False)
    config, _ = resolve_shape(loaded.model, loaded.tokenizer.vocab_size)
    _print_rich(tables(rehearse(config, loaded.pretrain, loaded.parallel, world or loaded.parallel.processes)))


@app.command()
def trace(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run, or a folder that inhouse exported.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare every file with its digest.")] = False,
) -> None:
    """Print which text, licences, code, settings and machines are in a model."""
    from inhouse.report.trace import load_lineage, render, verify_lineage

    print("\n".join(render(load_lineage(model))))
    if verify:
        if breaks := verify_lineage(model):
            raise ValueError("\n".join(breaks))
        print("\nverified: every file has the digest that its stage recorded")


def main() -> None:
    """The `inhouse` command: errors are sentences on stderr; `--debug`, in any place, shows the traceback too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 must not stop a run
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    is_debug = len(arguments) < len(sys.argv) - 1
    try:
        sys.exit(app(["--debug"] * is_debug + arguments, standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # what typer says about arguments that it cannot parse
            error.show()
            sys.exit(USER_ERROR)
        if is_debug:
            raise
        print(f"inhouse: {_sentence(error)}", file=sys.stderr)
        sys.exit(_exit_status(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if _exit_status(error) != INTERNAL_ERROR:
        return str(error)
    return f"internal error ({type(error).__name__}: {error}); --debug shows where"


def _exit_status(error: Exception) -> int:
    """What a stopped run asks for; else 2 where the user can help it, 1 where it is ours."""
    is_users = isinstance(error, ValueError | OSError)
    return int(getattr(error, "exit_status", USER_ERROR if is_users else INTERNAL_ERROR))


def _opening(model: Path, is_chat: bool) -> str:
    """What somebody who begins to talk to a model should know of it, and how to leave."""
    from inhouse.common.model_paths import find_model, model_name
    from inhouse.posttrain.conversations import trained_on

    kinds = trained_on(find_model(model))
    if not is_chat:
        knows = "is a base model: it goes on from your text, and answers no questions"
    elif kinds:
        knows = f"was taught to answer {', '.join(kinds)}; what it says on anything else is a guess"
    else:
        knows = "answers what its conversations taught it"
    return f"{model_name(model)} {knows}. Ctrl-D leaves."


def _agrees(question: str) -> bool:
    """What the user at the terminal says; no where there is none."""
    return sys.stdin.isatty() and typer.confirm(question)


def _print_stream(pieces: Any) -> str:
    text = ""
    for piece in pieces:
        text += piece
        print(piece, end="", flush=True)
    print()
    return text


def _ask() -> str | None:
    """The user's next line, or None at the end of the input."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _print_rich(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=140)).print(renderable)
