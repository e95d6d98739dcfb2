"""The verb `compare`."""

from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.terminal import print_rich

Side = Annotated[str, typer.Argument(help="A results folder, lm-eval's samples, or Inspect's log: a file or a folder.")]


def compare(
    a: Side,
    b: Side,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare by this metric, not each task's own.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Items with the same value here share something (lm-eval, Inspect)."),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RESULTS", help="Of a run's last checkpoints, 3 or more: how much scores vary by themselves."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page, with the answers side by side.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two models on the same items: the difference, how sure it is, and what could have been seen."""
    from inhouse.evaluate.compare import comparison
    from inhouse.report import comparison as shown

    compared = comparison.compare(a, b, metric, cluster, checkpoint or ())
    if html is not None:
        shown.write_page(html, compared)
    if as_json:
        print(shown.as_json(compared))
        return
    print_rich(shown.table(compared), width=200)
    for line in shown.lines(compared):
        print(line)
