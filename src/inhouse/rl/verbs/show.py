"""What the verbs of a climb print."""

from collections.abc import Sequence

from rich.table import Table

from inhouse.rl.verbs.rescore import Rescored
from inhouse.rl.verbs.tune import Gain


def gains_table(gains: Sequence[Gain]) -> Table:
    """Scores on held-out problems before and after, by environment."""
    table = _table("environment", "problems", "before", "after", "gain")
    for each in gains:
        before, after = _share(each.before, each.before_error), _share(each.after, each.after_error)
        gain = f"{100 * (each.after - each.before):+.1f}"
        table.add_row(each.environment, f"{each.num_problems:,}", before, after, gain)
    return table


def rescored_table(groups: Sequence[Rescored]) -> Table:
    """By environment: mean scores and rewards as they were and as they are, and how many answers have another score."""
    table = _table("environment", "answers", "changed", "score", "now", "reward", "now")
    for name in dict.fromkeys(group.environment for group in groups):
        own = [group for group in groups if group.environment == name]
        answers = sum(group.answers for group in own)

        def mean(column: str, own: Sequence[Rescored] = own, answers: int = answers) -> str:
            return f"{sum(getattr(group, column) * group.answers for group in own) / answers:.3f}"

        means = map(mean, ("score_before", "score", "reward_before", "reward"))
        table.add_row(name, f"{answers:,}", f"{sum(group.changed for group in own):,}", *means)
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _share(value: float, error: float) -> str:
    return f"{100 * value:.1f} % ± {100 * error:.1f}"
