"""A climb as one verb: any model folder, an environment of one's own, and what it gained."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from inhouse.common.model_paths import check_output, find_model, find_run
from inhouse.rl.loop.climb import HELDOUT_SCORES
from inhouse.rl.settings import RATES_ON_A_BASE, RlSettings
from inhouse.rl.stage import climb


class Gain(NamedTuple):
    """The score on held-out problems of an environment, first and last, with their standard errors."""

    environment: str
    num_problems: int
    before: float
    before_error: float
    after: float
    after_error: float


def tune(model: Path, settings: RlSettings, output: Path, seed: int) -> list[Gain]:
    """Let the model at `model` climb into the folder `output`; goes on where it was stopped. Raises as `climb` does."""
    base = find_model(model)
    check_output(output, base, "checkpoints")
    climb(settings if find_run(base) else on_a_base(settings), base, output, seed)
    return gains(output)


def on_a_base(settings: RlSettings) -> RlSettings:
    """With the small rates of somebody else's model, where none are given: it knows more than it would keep."""
    return settings.model_copy(
        update={name: rate for name, rate in RATES_ON_A_BASE.items() if name not in settings.model_fields_set}
    )


def gains(folder: Path) -> list[Gain]:
    """What a climb's held-out scores say, by environment."""
    rows = [json.loads(line) for line in (folder / HELDOUT_SCORES).read_bytes().splitlines()]
    return [_gain(name, rows) for name in dict.fromkeys(row["environment"] for row in rows)]


def _gain(name: str, rows: Sequence[dict[str, float]]) -> Gain:
    own = [row for row in rows if row["environment"] == name]
    first, last = own[0], own[-1]
    errors = first["standard_error"], last["standard_error"]
    return Gain(name, int(last["count"]), first["score"], errors[0], last["score"], errors[1])
