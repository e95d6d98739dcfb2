"""A plan of three models in a folder."""

from pathlib import Path

from tests.arena.tamper import KEY

from inhouse.arena.battle.plan import Plan

MODELS = [{"name": "good", "url": "http://x"}, {"name": "bad", "url": "http://x"},
          {"name": "rare", "url": "http://x", "weight": 0.25}]  # fmt: skip


def plan_in(folder: Path, **fields: object) -> Plan:
    (folder / "key").write_bytes(KEY)
    places = {"votes": folder / "votes.jsonl", "head": folder / "kept" / "head.json", "key": folder / "key"}
    given = {"battles": 40, "environment": "addition", "models": MODELS, "at_once": 3} | fields
    return Plan(**places, **given)  # type: ignore[arg-type]
