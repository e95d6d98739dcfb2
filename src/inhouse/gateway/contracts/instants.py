"""Dates and times as configurations write them, and as sentences say them. All are UTC; a date is its first instant."""

from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import BeforeValidator


def read_instant(value: object) -> datetime:
    """A TOML date or time, or its text, in UTC.

    Raises `ValueError` where it is neither, and where a time does not say its zone.
    """
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) <= len("2026-04-01") else datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("needs a date, such as 2026-04-01, or a time, such as 2026-04-01T09:00:00Z") from error
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("does not say in which zone: write a time such as 2026-04-01T09:00:00Z")
        try:
            return value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("is outside of the years 1 to 9999 in UTC") from error
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError("needs a date, such as 2026-04-01, or a time, such as 2026-04-01T09:00:00Z")


Instant = Annotated[datetime, BeforeValidator(read_instant)]


def say_instant(seconds: float) -> str:
    """A date where it is a day's first instant, else a time to the second."""
    moment = datetime.fromtimestamp(seconds, UTC)
    if moment.time() == datetime.min.time():
        return moment.date().isoformat()
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
