"""Which names of a source are read: gitignore's syntax, on files and on the members of archives alike."""

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

# What is never meant as text: dotfiles (.git, .env, .venv among them), what installers and version control keep, and
# our own runs. A folder with a pyvenv.cfg, a virtual environment by any name, is left out where folders are walked.
DEFAULT_EXCLUDES = (".*", "CVS/", "__MACOSX/", "__pycache__/", "node_modules/", "site-packages/", "runs/")
_ENDING = re.compile(r"\.[^\s*?\[\]/!\\]+")
_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz|tbz2|txz|tzst|tar\.\w+)$", re.IGNORECASE)


def compile_patterns(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Patterns as in a `.gitignore`; a bare ending, `.md`, is short for `*.md`, which it could never have meant else.

    Raises `ValueError` naming the pattern that is none.
    """
    lines = [f"*{line}" if _ENDING.fullmatch(line) else line for line in patterns]
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            raise ValueError(f"{line!r} is no pattern of gitignore's syntax, such as *.md or drafts/") from None
    return GitIgnoreSpec.from_lines(lines)


class Selection:
    """What of a source is read. Names are relative to the source, parts joined by `/`; a folder's ends with one."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str], default_excludes: bool) -> None:
        self._include = compile_patterns(include)
        self._exclude = [compile_patterns(exclude)]
        if default_excludes:  # by themselves, so that no `!` of the user's opens them by the way
            self._exclude.append(compile_patterns(DEFAULT_EXCLUDES))

    def excludes(self, name: str) -> bool:
        return any(spec.match_file(name) for spec in self._exclude)

    def includes(self, name: str) -> bool:
        """An archive is a folder to patterns: they match its members, and all of them where they match itself."""
        return len(self._include) == 0 or self._include.match_file(name)

    def may_hold_included(self, name: str) -> bool:
        """Whether a file must be opened: it is included, or is an archive by its name, whose members may be."""
        return self.includes(name) or _ARCHIVE.search(name) is not None
