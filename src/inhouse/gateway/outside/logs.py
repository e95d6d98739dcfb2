"""Logs as lines of JSON: one for every call, one for all else that is said. Neither keys nor texts of callers."""

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from typing import Any

from inhouse.gateway.gateway import Call
from inhouse.gateway.types import NANO

calls = logging.getLogger("inhouse.gateway.calls")
_KEY = re.compile(r"\b(?:ih|sk|pk|rk|AIza)[-_]?[A-Za-z0-9_-]{16,}|(?<=[Bb]earer )\S+")
_LONGEST = 2000  # characters of a message
_LONGEST_NAME = 200  # of what a client may have made up


class JsonLines(logging.Formatter):
    """A record as one line. Of an exception its type and where it was raised, not what it says: that may quote what a
    caller asked."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _KEY.sub("[key]", record.getMessage())[:_LONGEST],
        }
        if record.exc_info and (error := record.exc_info[1]) is not None:
            frames = traceback.extract_tb(error.__traceback__)
            said["exception"] = type(error).__name__
            said["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(said | getattr(record, "fields", {}))


def write_json() -> None:
    """From now on everything that is logged, the server's own words included, goes to stderr as JSON, and each call."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in ("", "uvicorn", "uvicorn.error", "inhouse.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [] if name else [handler], True
    calls.setLevel(logging.INFO)


def log_call(call: Call) -> None:
    """How a call ended: who asked, who answered, what it used and cost."""
    if calls.isEnabledFor(logging.INFO):
        calls.info("%s", call.outcome, extra={"fields": fields_of(call)})


def fields_of(call: Call) -> dict[str, Any]:
    """Of its line: what the ledger has of it, without why."""
    return {
        "call": call.id, "key": call.caller.key_id, "team": call.caller.team, "face": call.asked.face,
        "asked": call.asked.request.model[:_LONGEST_NAME], "task": call.decision.task, "outcome": call.outcome,
        "status": call.status, "seconds": round(call.seconds, 4),
        "first_token": None if call.first_token is None else round(call.first_token, 4),
        "cost": sum(booked.cost for booked in call.booked) / NANO,
        "trace": call.asked.trace[:_LONGEST_NAME],
        "attempts": [
            {
                "provider": attempt.target.provider, "model": attempt.target.model, "outcome": attempt.outcome,
                "seconds": round(attempt.seconds, 4), "is_estimate": attempt.is_estimate,
                **(attempt.usage._asdict() if attempt.usage else {}),
            }
            for attempt in call.attempts
        ],
    }  # fmt: skip
