"""The store in one file, for one machine: several processes may share it."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from inhouse.gateway.store.database import Database, Row, StoreDown, Transaction, Work

T = TypeVar("T")
_WAIT_SECONDS = 10.0  # for another process's transaction
_CHECKPOINT_SECONDS = 1.0
