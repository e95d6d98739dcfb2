"""The verbs `tune`, `rl rescore` and `rl traces`: a climb for a task of one's own, and what climbs have kept."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import with_settings
from inhouse.cli.terminal import print_rich
from inhouse.rl.consolidate.settings import TraceSettings

if TYPE_CHECKING:
    from inhouse.rl.settings import RlSettings

rl = typer.Typer(no_args_is_help=True, help="Look at what a climb has kept.")
Changes = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe's table rl, as steps=200.")
]


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run, an exported or a Hugging Face folder.")],
    env: Annotated[list[str], typer.Option(metavar="NAME", help="On problems of this environment; several: of each.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Of the model that this makes.")],
    overrides: Changes = [],  # noqa: B006  (typer copies it)
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of everything random.")] = 1,
) -> None:
    """Let a model learn by trying, on problems whose answers can be checked; goes on where it was stopped."""
    from inhouse.environments.registry import check_name
    from inhouse.rl.verbs.show import gains_table
    from inhouse.rl.verbs.tune import tune as climb_there

    gained = climb_there(
        model, _settings(overrides, {"environments": {check_name(name): 1.0 for name in env}}), output, seed
    )
    print_rich(gains_table(gained))
    print(f"talk to it: inhouse chat {output}")


@rl.command("rescore")
def rescore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with an rl stage, or a folder of rollouts.")],
    env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Grade by this environment's verifier; default: each by its own.")
    ] = None,
    overrides: Changes = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a line of JSON for every group.")] = None,
) -> None:
    """Score kept rollouts again, by another verifier or for another reward; samples nothing."""
    import json

    from inhouse.common.files import write_atomic
    from inhouse.environments.registry import check_name
    from inhouse.environments.verdicts import Verdicts
    from inhouse.rl.loop.rewarding import Rewarding
    from inhouse.rl.verbs.rescore import journal_of, own_settings
    from inhouse.rl.verbs.rescore import rescore as score_again
    from inhouse.rl.verbs.show import rescored_table

    journal = journal_of(run)
    settings = _settings(overrides, own_settings(journal))
    name = None if env is None else check_name(env)
    if output is not None:
        output.open("a").close()  # before the work, not after it
    with Verdicts(settings.workers, settings.verifier_seconds, settings.most_failures) as verdicts:
        groups = list(score_again(journal, verdicts.grade, Rewarding(settings.reward, settings.max_tokens), name))
    print_rich(rescored_table(groups))
    if output is not None:
        write_atomic(output, "".join(json.dumps(group._asdict()) + "\n" for group in groups))
        print(f"every group: {output}", file=sys.stderr)


@rl.command()
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


def _settings(overrides: list[str], given: "dict[str, object] | None" = None) -> "RlSettings":
    from pydantic import ValidationError

    from inhouse.recipe.errors import words
    from inhouse.recipe.overrides import override
    from inhouse.rl.settings import RlSettings

    document: dict[str, object] = {"rl": given or {}}
    for each in overrides:
        override(document, f"rl.{each}")
    try:
        return RlSettings.model_validate(document["rl"])
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise ValueError(f"--set {'.'.join(map(str, detail['loc'])) or 'rl'}: {words(detail)}") from error
