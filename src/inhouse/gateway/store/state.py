"""Small facts that all replicas and restarts must know, by name: providers that were cut, roll-outs under way."""

import json
from typing import Any

from inhouse.gateway.store.database import Transaction


async def get(tx: Transaction, name: str) -> Any:
    """What was put under this name last; None where nothing was."""
    rows = await tx.fetch("SELECT value FROM state WHERE name = ?", name)
    return json.loads(rows[0][0]) if rows else None


async def put(tx: Transaction, name: str, value: Any, now: float) -> None:
    """Keep anything that JSON can hold in the place of what was there. Who reads first and writes what follows from it
    begins with `tx.alone(name)`."""
    await tx.execute(
        "INSERT INTO state (name, value, at) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at",
        name, json.dumps(value), now,
    )  # fmt: skip


async def remove(tx: Transaction, name: str) -> None:
    """Forget a name; nothing happens where it is not there."""
    await tx.execute("DELETE FROM state WHERE name = ?", name)


async def under(tx: Transaction, prefix: str) -> dict[str, Any]:
    """All names that begin with a prefix and what stands under them, in the order of the names."""
    rows = await tx.fetch(
        "SELECT name, value FROM state WHERE substr(name, 1, ?) = ? ORDER BY name", len(prefix), prefix
    )
    return {row["name"]: json.loads(row["value"]) for row in rows}
