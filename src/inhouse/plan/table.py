"""A dry run as tables for the terminal."""

from rich.console import Group
from rich.table import Table

from inhouse.plan.dry_run import DryRun

_UNITS = ("B", "kB", "MB", "GB", "TB")


def tables(run: DryRun) -> Group:
    """What the first process holds, and what it says to others."""
    return Group(_memory(run), "", _collectives(run))


def _memory(run: DryRun) -> Table:
    drawn = Table(box=None, pad_edge=False, title=f"One process of {run.world:,}, one step", title_justify="left")
    for column in ("holds", "bytes", ""):
        drawn.add_column(column, justify="right" if column == "bytes" else "left")
    share = (
        f"{run.parameters:,} parameters: an even share {size(run.parameter_share)}, padding {size(run.padding_bytes)}"
    )
    rows = (
        ("parameters", run.parameter_bytes, share),
        ("gradients", run.gradient_bytes, ""),
        ("optimizer state", run.optimizer_bytes, "after the first step"),
        ("activations", run.activation_bytes, "kept for the backward pass, at most"),
    )
    for name, held, remark in rows:
        drawn.add_row(name, size(held), remark)
    drawn.add_row("together", size(sum(held for _, held, _ in rows)), "without buffers that live shorter")
    drawn.add_row("update", size(run.update_bytes), "when activations are gone: what the optimizer computes with")
    return drawn


def _collectives(run: DryRun) -> Table:
    drawn = Table(box=None, pad_edge=False)
    for column in ("collective", "group", "ranks", "type", "calls", "bytes"):
        drawn.add_column(column, justify="left" if column in ("collective", "group", "type") else "right")
    for kind, group, ranks, dtype, calls, total in run.collectives:
        drawn.add_row(kind, group, f"{ranks:,}", dtype, f"{calls:,}", size(total))
    return drawn


def size(count: float) -> str:
    """12 B, 3.4 kB, 5.62 GB: decimal units, three digits."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 0 if unit == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:,.{digits}f} {_UNITS[unit]}"
