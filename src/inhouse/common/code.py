"""Which code runs."""

from functools import cache
from pathlib import Path

from inhouse.common.files import digest
from inhouse.common.lineage import digest_of


@cache
def source_digest() -> str:
    """Of this package's own source: processes that have the same one run the same code."""
    package = Path(__file__).parents[1]
    return digest_of({path.relative_to(package).as_posix(): digest(path) for path in sorted(package.rglob("*.py"))})
