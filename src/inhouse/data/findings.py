"""What was met while reading and did not become a document: counted by kind, with bytes, and named.

One policy for all formats (`data.on_bad_input`): what is bad is skipped and told afterwards, or the first one ends it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "binary", "undecodable", "unreadable", "damaged", "malformed", "oversized", "expanding", "encrypted", "nested",
    "changed", "missing_extra",
]  # fmt: skip
MAX_NAMES = 1000

_WORDS: dict[Kind, tuple[str, str]] = {  # what the terminal calls a kind, and what to do about one
    "binary": ("binary", "leave it out with `exclude`"),
    "undecodable": ("in no known encoding", "save it as UTF-8"),
    "unreadable": ("unreadable", "let this user read it, or leave it out with `exclude`"),
    "damaged": ("damaged or cut short", "get the file again"),
    "malformed": ("without text", "correct it, or set `text_field` of the source"),
    "oversized": ("too long", "raise data.max_document_bytes"),
    "expanding": ("unpacking too far", "remove it, or raise data.max_expansion if it is to be trusted"),
    "encrypted": ("encrypted", "unpack it with its password"),
    "nested": ("nested too deep", "unpack the outer archives"),
    "changed": ("changed while read", "run again when nothing writes it any more"),
    "missing_extra": ("in need of an extra", "install it"),
}


class BadInput(Exception):
    """Something that cannot become a document: its kind and why; `where` names it, None: whatever is being read."""

    def __init__(self, kind: Kind, reason: str, where: str | None = None) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.where = kind, reason, where


@dataclass
class Skipped:
    """All of one kind: how many, their bytes as far as known, and the first `MAX_NAMES` with the reason of each."""

    count: int = 0
    bytes: int = 0
    names: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """Files (or members of archives) read, the bytes of text that they gave, and whatever did not become a document.

    `encodings` counts texts that were not UTF-8. `place` is where the source lies; with `stops`, the first bad input
    raises instead.
    """

    files: int = 0
    bytes: int = 0
    empty: int = 0
    excluded: int = 0
    encodings: dict[str, int] = field(default_factory=dict)
    skipped: dict[Kind, Skipped] = field(default_factory=dict)
    place: str = ""
    stops: bool = False

    def skip(self, bad: BadInput, name: str, num_bytes: int = 0) -> None:
        """Count something bad. Raises `ValueError` with its sentence where the policy is to stop."""
        if self.stops:
            remedy = _WORDS[bad.kind][1]
            raise ValueError(
                f'{self.place}: {name}: {bad.reason}; {remedy}, or skip what is bad with data.on_bad_input = "skip"'
            )
        self._skip(bad.kind, Skipped(1, num_bytes, [f"{name} ({bad.reason})"]))

    def decoded(self, encoding: str) -> None:
        self.encodings[encoding] = self.encodings.get(encoding, 0) + 1

    def add(self, other: "Findings") -> None:
        self.files += other.files
        self.bytes += other.bytes
        self.empty += other.empty
        self.excluded += other.excluded
        for encoding, count in other.encodings.items():
            self.encodings[encoding] = self.encodings.get(encoding, 0) + count
        for kind, skipped in other.skipped.items():
            self._skip(kind, skipped)

    def _skip(self, kind: Kind, more: Skipped) -> None:
        known = self.skipped.setdefault(kind, Skipped())
        known.count += more.count
        known.bytes += more.bytes
        known.names += more.names[: MAX_NAMES - len(known.names)]

    def summary(self) -> str:
        """One line for an error: what there was instead of text."""
        parts = [f"{self.files} files read", f"{self.empty} empty", f"{self.excluded} excluded"]
        return ", ".join(parts + [_words(kind, skipped) for kind, skipped in self.skipped.items()])


def terminal_line(all_findings: Iterable[Findings]) -> str | None:
    """How many things were skipped, their share of the bytes, and why, the most of a kind first; None: nothing was."""
    total = Findings()
    for findings in all_findings:
        total.add(findings)
    if not total.skipped:
        return None
    kinds = sorted(total.skipped.items(), key=lambda item: -item[1].count)
    count, size = (sum(getattr(skipped, what) for _, skipped in kinds) for what in ("count", "bytes"))
    share = 100 * size / max(1, size + total.bytes)
    why = "; ".join(_words(kind, skipped) for kind, skipped in kinds)
    return f"data: skipped {count:,}, {share:.2g} % of the bytes: {why}; counts.json names them all"


def _words(kind: Kind, skipped: Skipped) -> str:
    more = ", …" if skipped.count > 1 else ""
    return f"{skipped.count:,} {_WORDS[kind][0]}: {skipped.names[0]}{more}"
