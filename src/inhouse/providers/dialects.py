"""The dialects by name. A new one is a file of its own and its name here."""

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import SecretStr

from inhouse.providers.adapter import Adapter
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.any_llm import ANY_LLM, PREFIX, AnyLLMTransport, check_any_llm
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.expressible import Capabilities
from inhouse.providers.gemini import GEMINI
from inhouse.providers.openai import INHOUSE, OPENAI
from inhouse.providers.settings import LimitSettings

DIALECTS = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "inhouse": INHOUSE}


def dialect(name: str) -> Adapter:
    """Raises `ValueError` saying which there are."""
    if name.startswith(PREFIX):
        return ANY_LLM
    if name not in DIALECTS:
        near = get_close_matches(name, DIALECTS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f'there is no dialect "{name}"; {meant}there are {", ".join(DIALECTS)} and {PREFIX}NAME')
    return DIALECTS[name]


def endpoint(
    name: str,
    url: str | None,
    key: SecretStr | None = None,
    limits: LimitSettings | None = None,
    connections: int = 16,
    models: Mapping[str, Capabilities] | None = None,
) -> Endpoint:
    """An endpoint that is asked in the dialect of this name, not yet open. `any-llm:NAME` may do without an address.
    Raises `ValueError`."""
    adapter = dialect(name)
    if not name.startswith(PREFIX):
        if url is None:
            raise ValueError(f'an endpoint in the dialect "{name}" needs an address')
        return Endpoint(url, adapter, key, limits, connections, models)
    check_any_llm(name)
    provider = name.removeprefix(PREFIX)
    transport = AnyLLMTransport(provider, url, None if key is None else key.get_secret_value())
    return Endpoint(url or f"https://{provider}.any-llm", adapter, key, limits, connections, models, transport)
