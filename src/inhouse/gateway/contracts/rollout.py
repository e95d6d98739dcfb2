"""Moves a task to a new model in steps, each held until it has proved itself, and back by itself where it does not."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PositiveFloat, model_validator

from inhouse.common.settings import Settings
from inhouse.gateway.contracts.guards import Arm, GuardSettings, tripped
from inhouse.gateway.routing.offer import Rollout
from inhouse.gateway.store import state
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database, Transaction

log = logging.getLogger(__name__)
Share = Annotated[float, Field(gt=0, le=1)]
_PREFIX = "rollout/"
_NEWEST = 5000  # calls of a task that the guards look at
# of each call who was asked first: what failed over says nothing of who took over
_CALLS = """
    SELECT model, outcome, COUNT(*) AS calls, SUM(seconds) AS seconds, SUM(seconds * seconds) AS squares
    FROM (SELECT model, outcome, seconds FROM spent WHERE task = ? AND at >= ? AND number = 1
          ORDER BY at DESC LIMIT ?) newest
    GROUP BY model, outcome
"""
_VOTES = """
    SELECT model, COUNT(*) AS votes, CAST(SUM(is_good) AS BIGINT) AS good
    FROM votes WHERE task = ? AND at >= ? GROUP BY model
"""
_NO_FAULT = ("client gone", "abandoned", "lost")  # of the model's: the call does not count
_REFUSED = "content filter"


class RolloutSettings(Settings):
    """A task that goes over to a new model."""

    task: str = Field(min_length=1, description="the task")
    model: str = Field(min_length=1, description="the model that it goes to, as requests name it")
    steps: tuple[Share, ...] = Field(
        default=(0.01, 0.05, 0.2, 0.5, 1.0), min_length=1, description="shares of the task's conversations, rising"
    )
    step_hours: PositiveFloat = Field(default=24.0, description="how long each step is held at least")
    guards: GuardSettings = GuardSettings()

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if list(self.steps) != sorted({*self.steps}):
            raise ValueError(f"steps must rise; {', '.join(f'{share:g}' for share in self.steps)} do not")
        return self


class Standing(NamedTuple):
    """Where a roll-out is."""

    model: str
    steps: tuple[float, ...]
    step: int
    since: float  # seconds of the wall clock
    outcome: Literal["running", "done", "rolled back"]
    why: str
    others: Arm  # at the step before: what is compared with where nearly nobody is left on the other side

    @property
    def share(self) -> float:
        return 0.0 if self.outcome == "rolled back" else self.steps[self.step]


class Rollouts:
    """All roll-outs of a gateway: `of` assigns conversations, `look` moves the steps. What stands is in the store, so
    that all replicas and restarts agree; who reaches it first moves a step, and the audit log says so."""

    def __init__(self, db: Database, audit: AuditLog, settings: Sequence[RolloutSettings]) -> None:
        self._db, self._audit = db, audit
        self._settings = {each.task: each for each in settings}
        self.standings: dict[str, Standing] = {}

    def of(self, task: str, conversation: str) -> Rollout | None:
        """The roll-out of a task, and whether it has reached a conversation. Who is in at a small share stays in at a
        larger one."""
        standing = self.standings.get(task)
        if standing is None:
            return None
        return Rollout(standing.model, place(task, standing.model, conversation) < standing.share)

    async def run(self, interval: float = 15.0) -> None:
        """Look, again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking after the roll-outs failed")  # shares stay as they are
            await asyncio.sleep(interval)

    async def look(self) -> None:
        """Begin what is new, take the next step where its time has come, take back what trips a guard."""
        stored = await self._stored()
        for task, settings in self._settings.items():
            known = stored.get(task)
            if known is None or (known.model, known.steps) != (settings.model, settings.steps):
                begun = Standing(settings.model, settings.steps, 0, self._db.now(), "running", "", Arm())
                await self._move(task, known, begun)
            elif known.outcome == "running":
                await self._judge(task, settings, known)
        stored = await self._stored()
        self.standings = {task: stored[task] for task in self._settings if task in stored}

    async def _judge(self, task: str, settings: RolloutSettings, known: Standing) -> None:
        new, old = await self._arms(task, known)
        others = old if old.calls >= min(settings.guards.fewest, known.others.calls) else known.others
        now, guards = self._db.now(), settings.guards
        if why := tripped(new, others, guards):
            await self._move(task, known, known._replace(outcome="rolled back", why=why, since=now))
        elif now - known.since >= settings.step_hours * 3600 and new.calls >= guards.fewest:
            if known.step + 1 < len(known.steps):
                after = known._replace(step=known.step + 1, since=now, others=others)
            else:
                after = known._replace(outcome="done", since=now)
            await self._move(task, known, after)

    async def _arms(self, task: str, known: Standing) -> tuple[Arm, Arm]:
        """The new model's calls since the step began, and all others'."""
        arms = {True: Arm(), False: Arm()}
        for row in await self._db.read(_CALLS, task, known.since, _NEWEST):
            if row["outcome"] not in _NO_FAULT:
                is_new = row["model"] == known.model
                arms[is_new] = _with_calls(arms[is_new], row)
        for row in await self._db.read(_VOTES, task, known.since):
            arm = arms[row["model"] == known.model]
            arms[row["model"] == known.model] = arm._replace(
                votes=arm.votes + row["votes"], good=arm.good + row["good"]
            )
        return arms[True], arms[False]

    async def _move(self, task: str, before: Standing | None, after: Standing) -> None:
        """Unless another replica has moved it meanwhile."""

        async def work(tx: Transaction) -> None:
            await tx.alone("rollouts")
            value = await state.get(tx, _PREFIX + task)
            if (value and _standing(value)) != before:
                raise _MovedAlready
            await state.put(tx, _PREFIX + task, after._asdict(), self._db.now())

        what = {"running": f"step {after.step + 1} of {len(after.steps)}"}.get(after.outcome, after.outcome)
        details = {"task": task, "model": after.model, "share": after.share, "why": after.why}
        try:
            await self._audit.act("roll-out", f"roll-out: {what}", details, work)
        except _MovedAlready:
            log.debug("another replica has moved the roll-out of %s", task)
        else:
            log.warning("roll-out of %s to %s: %s %s", task, after.model, what, after.why)

    async def _stored(self) -> dict[str, Standing]:
        rows = await self._db.run(lambda tx: state.under(tx, _PREFIX))
        return {name.removeprefix(_PREFIX): _standing(value) for name, value in rows.items()}


class _MovedAlready(Exception):
    """The roll-out is no longer where it was when this replica looked."""


def place(task: str, model: str, conversation: str) -> float:
    """Where a conversation stands among all, between 0 and 1: the same at every replica and at every time."""
    digest = hashlib.blake2b("\0".join((task, model, conversation)).encode("utf-8", "backslashreplace"), digest_size=8)
    return int.from_bytes(digest.digest()) / 2**64


def _with_calls(arm: Arm, row: Any) -> Arm:
    """`arm` and the calls of one outcome."""
    arm = arm._replace(calls=arm.calls + row["calls"])
    if row["outcome"] not in ("answered", _REFUSED):
        return arm._replace(errors=arm.errors + row["calls"])
    return arm._replace(
        refusals=arm.refusals + row["calls"] * (row["outcome"] == _REFUSED),
        seconds=arm.seconds + row["seconds"],
        squares=arm.squares + row["squares"],
    )


def _standing(value: dict[str, Any]) -> Standing:
    return Standing(**{**value, "steps": tuple(value["steps"]), "others": Arm(*value["others"])})
