"""The dialects by name. A new one is a file of its own and its name here."""

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import SecretStr

from inhouse.providers.adapter import Adapter
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.expressible import Capabilities
from inhouse.providers.openai import INHOUSE, OPENAI
from inhouse.providers.settings import LimitSettings

DIALECTS = {"openai": OPENAI, "anthropic": ANTHROPIC, "inhouse": INHOUSE}


def dialect(name: str) -> Adapter:
    """Raises `ValueError` saying which there are."""
    if name not in DIALECTS:
        near = get_close_matches(name, DIALECTS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f'there is no dialect "{name}"; {meant}there are {", ".join(DIALECTS)}')
    return DIALECTS[name]


def endpoint(
    name: str,
    url: str,
    key: SecretStr | None = None,
    limits: LimitSettings | None = None,
    connections: int = 16,
    models: Mapping[str, Capabilities] | None = None,
) -> Endpoint:
    """An endpoint that is asked in the dialect of this name, not yet open. Raises `ValueError`."""
    return Endpoint(url, dialect(name), key, limits, connections, models)
