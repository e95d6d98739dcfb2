"""A rehearsal in words, for whoever must decide."""

from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.rehearsal import Change, Move, Rehearsal
from inhouse.gateway.types import NANO

_ROWS = 20  # moves that are listed one by one


def rehearsal_text(rehearsal: Rehearsal, currency: str) -> str:
    """Totals, then the moves, what has no replacement first."""
    provider, answered = rehearsal.provider, rehearsal.moved + rehearsal.stranded
    span = f" of {rehearsal.days:.1f} days" * bool(rehearsal.days)
    lines = [
        f"{provider} cut on {say_instant(rehearsal.at)}, by {rehearsal.calls:,} calls{span}:",
        f"  answered by {provider}: {answered:,}; another would answer {rehearsal.moved:,}, "
        f"nobody {rehearsal.stranded:,}",
        f"  cost of what moves: {_signed(rehearsal.cost_change / NANO)} {currency}{_monthly(rehearsal, currency)}",
        f"  quality of what moves: {_quality(rehearsal)}",
    ]
    if (progress := rehearsal.commitment) and progress.owed:
        lines.append(f"  still owed of the commitment: {progress.owed / NANO:,.2f} {currency}")
    lines += [_move(move, currency) for move in rehearsal.moves[:_ROWS]]
    if (more := len(rehearsal.moves) - _ROWS) > 0:
        lines.append(f"  and {more} more")
    return "\n".join(lines)


def _move(move: Move, currency: str) -> str:
    start = f"  {move.task or 'unknown task'}, {move.calls:,} calls: {move.source.model} -> "
    if move.to is None:
        return f"{start}nobody ({move.why_nobody})"
    change = f"quality {_change(move.quality)}" if move.quality else "quality not measured"
    cost = f"{move.before / NANO:,.4f} -> {move.after / NANO:,.4f} {currency}"
    return f"{start}{move.to.model} at {move.to.provider}; {cost}; {change}"


def _monthly(rehearsal: Rehearsal, currency: str) -> str:
    """What it comes to in 30 days, where the calls span at least one."""
    if rehearsal.days < 1:
        return ""
    return f", {_signed(rehearsal.cost_change / NANO * 30 / rehearsal.days)} {currency} in 30 days"


def _quality(rehearsal: Rehearsal) -> str:
    if (change := rehearsal.quality) is None:
        return "not measured at these tasks"
    return f"{_change(change)}, over {rehearsal.measured:,} of {rehearsal.moved:,} calls whose models were measured"


def _change(change: Change) -> str:
    return f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _signed(amount: float) -> str:
    return f"{amount:+,.4f}"
