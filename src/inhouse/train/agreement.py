"""Whether all processes of a run do the same: under torchrun each machine has its own copy of code, recipe and text."""

from typing import Any

import torch

from inhouse.common.code import source_digest
from inhouse.common.lineage import digest_of
from inhouse.train.ranks import Ranks


def check_alike(ranks: Ranks, facts: dict[str, Any]) -> None:
    """Compare code and `facts` (JSON values by name, those of a nested one apart); all ranks must call it together.

    Raises `ValueError` on every rank, naming what differs and one rank that has it otherwise.
    """
    mine = {"code": source_digest(), "torch": torch.__version__}
    for name, value in facts.items():
        parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        mine |= {key: digest_of(part) for key, part in parts.items()}
    every = ranks.gather(lambda: mine)
    for other, theirs in enumerate(every):
        differing = sorted(key for key in every[0].keys() | theirs.keys() if every[0].get(key) != theirs.get(key))
        if differing:
            raise ValueError(
                f"{', '.join(differing[:4])} of rank {other} is not that of rank 0: give all machines the same code, "
                f"recipe and run folder, then start again"
            )
