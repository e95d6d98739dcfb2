"""The ledger's attempts as a file: CSV, or parquet with the extra of that name. One row an attempt, oldest first."""

import csv
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from inhouse.common.files import replaced
from inhouse.gateway.store.database import Database, Row
from inhouse.gateway.types import NANO

_ROWS = 10_000  # at a time: a ledger of any length fits
_TEXTS = ("call_id", "key_id", "team", "task", "asked", "face", "provider", "model", "upstream", "kind", "outcome")
_COUNTS = ("number", "prompt", "cached", "completion", "thinking")
_MONEY = ("cost", "low", "high")
COLUMNS = (
    "at", "call_id", "number", "key_id", "team", "task", "asked", "face", "provider", "model", "upstream", "kind",
    "outcome", "seconds", "prompt", "cached", "completion", "thinking", "is_estimate", "price", "cost", "low", "high",
)  # fmt: skip
