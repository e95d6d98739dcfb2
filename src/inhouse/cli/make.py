"""The verbs `make`, `plan` and `trace`: a recipe carried out, rehearsed, and accounted for."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.options import Output, Overrides, Recipe, Runs, write_manifest
from inhouse.cli.terminal import agrees, print_rich


def make(
    context: typer.Context,
    recipe: Recipe,
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    anew: Annotated[
        list[str], typer.Option(metavar="STAGE", help="Make this stage anew, and what depends on it.")
    ] = [],  # noqa: B006  (typer copies it)
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every number and its rule; run nothing.")] = False,
    runs: Runs = Path("runs"),
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

        print_rich(table(all_numbers(loaded, passes)))
        return
    from inhouse.pipeline.runner import make as run_recipe
    from inhouse.report.summary import summary

    if run_recipe(loaded, runs, until, anew=anew, agrees=agrees):
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


def plan(
    recipe: Recipe,
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
    print_rich(tables(rehearse(config, loaded.pretrain, loaded.parallel, world or loaded.parallel.processes)))


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
