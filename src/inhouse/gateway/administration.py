"""What verbs of the command need of a gateway that runs, or does not: its store, its keys, its audit log."""

import getpass
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, get_args

from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.config.read import POSTGRES, read_config
from inhouse.gateway.contracts.cut import stored_cuts
from inhouse.gateway.settings import AUTO, NAME, QuotaSettings, parse_amount
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.keys import Keys
from inhouse.gateway.store.open import open_store
from inhouse.gateway.store.secret import read_secret
from inhouse.gateway.types import METRICS, Caller, Face

_LONGEST_NAME = 100


class Administration(NamedTuple):
    """An open store. `by` is who acts, as the audit log says it."""

    config: GatewayConfig
    db: Database
    audit: AuditLog
    keys: Keys
    by: str


@asynccontextmanager
async def administration(path: Path) -> AsyncIterator[Administration]:
    """Of the gateway that a file configures; others may use the store meanwhile. Raises `ValueError`."""
    config = read_config(path)
    secret = read_secret(config.secret_file)
    db = await open_store(config.store, config.folder, secret, config.currency)
    try:
        audit = AuditLog(db, config.audit_head, secret)
        yield Administration(config, db, audit, Keys(db, secret, audit), _operator())
    finally:
        await db.close()


async def known_cuts(config: GatewayConfig) -> set[str]:
    """The providers that its store knows to be cut now; none where it has no store yet."""
    if not config.store.startswith(POSTGRES) and not Path(config.store).exists():
        return set()
    db = await open_store(config.store, config.folder, read_secret(config.secret_file), config.currency)
    try:
        return {name for name, cut in (await stored_cuts(db)).items() if cut.stands(db.now())}
    finally:
        await db.close()


def _operator() -> str:
    try:
        return f"operator {getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in containers
        return f"operator {os.getuid()}"


def new_caller(
    config: GatewayConfig,
    name: str,
    *,
    team: str | None = None,
    budget: str | None = None,
    models: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    faces: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    keep_content_days: int = 0,
    is_admin: bool = False,
    quota: QuotaSettings | None = None,
) -> Caller:
    """The rights of a key to be made; without a team it is a team of its own, of that name.

    Raises `ValueError` for what the configuration does not have.
    """
    team = team or name
    for what, given in (("key", name), ("team", team)):
        if len(given) > _LONGEST_NAME or not re.fullmatch(NAME, given):
            raise ValueError(f"{given[:40]!r} is no name of a {what}: letters, digits, and . _ - behind the first")
    known = {target.model for target in config.targets()} | {*config.routing.fallbacks, AUTO}
    for model in models:
        if model not in known:
            raise ValueError(f'--models: there is no model "{model}"; there are {", ".join(sorted(known))}')
    all_faces = (*get_args(Face), METRICS)
    for face in faces:
        if face not in all_faces:
            raise ValueError(f'--faces: there is no face "{face}"; there are {", ".join(all_faces)}')
    most = config.content.most_days
    if keep_content_days > most:
        raise ValueError(f"--keep-content-days {keep_content_days} is more than [content] most_days = {most}")
    teams = {each.name: each for each in config.team}
    if team in teams:
        groups = tuple(dict.fromkeys([*groups, *teams[team].groups]))
    amount = None if budget is None else parse_amount(budget)
    quota = quota or QuotaSettings()
    return Caller(
        name, team, models, tasks, faces, is_admin, groups, keep_content_days,
        None if amount is None else amount.nano, "month" if amount is None else amount.period,
        quota.requests_per_minute or 0, quota.tokens_per_minute or 0,
    )  # fmt: skip
