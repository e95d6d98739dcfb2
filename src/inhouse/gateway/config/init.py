"""A first gateway.toml from what is found: runs of one's own, and keys in the environment."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from inhouse.common.model_paths import find_model
from inhouse.gateway.settings import AUTO

_HEAD = """\
# One gateway: `inhouse gateway check` says what does not fit, `inhouse gateway serve` starts it.
# All keys: docs/gateway-config.md
currency = "USD"            # of all prices and budgets
default = "{default}"         # answers where too little is known to choose
store = "gateway.sqlite"    # or postgresql://user@host/name for several gateways; the password is PGPASSWORD's

[server]
host = "127.0.0.1"
port = 8080
"""
_OWN = """
[[provider]]                # a model of one's own: the gateway starts it and watches it
name = "{name}"
dialect = "inhouse"
run = {run}
cost_per_hour = 0.10        # of its hardware, power included: SET THIS, it makes the model's price
tokens_per_second = 100.0   # under the usual load, prompts and answers together: SET THIS
"""
_OTHER = """
[[provider]]                # found: {variable}
name = "{name}"
dialect = "{dialect}"
{address}key_env = "{variable}"
"""
_MODEL = """\
  [[provider.model]]
  name = "{name}"
  context = {context}{limit}
"""
_TAIL = """
[failover]
stream_recovery = "hold"    # text is sent once it is safe; resume: at once

# [evidence]                # what routing (model = "auto") chooses by
# scores = ["scores.jsonl"] # written by `inhouse eval … --scores scores.jsonl`

# [[team]]
# name = "docs"
# requests_per_minute = 600

# [[budget]]
# team = "docs"
# amount = "500/month"

# [provider.terms]          # below a provider: its contract
# end = 2027-06-30
# may_not_serve = ["product/extraction"]
"""


class Known(NamedTuple):
    """An endpoint that many have a key for, and models of it that genai-prices lists, with their contexts."""

    variable: str
    name: str
    dialect: str
    url: str | None
    models: tuple[tuple[str, int], ...]
    max_output: int | None = None  # where its dialect needs a limit in every request


KNOWN = (
    Known("OPENAI_API_KEY", "openai", "openai", None, (("gpt-5.2", 400_000), ("gpt-5-mini", 400_000))),
    Known(
        "ANTHROPIC_API_KEY", "anthropic", "anthropic", None,
        (("claude-sonnet-4-5", 200_000), ("claude-haiku-4-5", 200_000)), 64_000,
    ),
    Known(
        "GEMINI_API_KEY", "gemini", "gemini", None, (("gemini-2.5-pro", 1_048_576), ("gemini-2.5-flash", 1_048_576))
    ),
    Known(
        "MISTRAL_API_KEY", "mistral", "openai", "https://api.mistral.ai/v1",
        (("mistral-large-latest", 128_000), ("mistral-small-latest", 128_000)),
    ),
    Known("DEEPSEEK_API_KEY", "deepseek", "openai", "https://api.deepseek.com/v1", (("deepseek-chat", 64_000),)),
)  # fmt: skip


def write_config(path: Path, runs: Path, environment: Mapping[str, str]) -> list[str]:
    """Write a commented configuration of what there is to `path`; what was found, a line each.

    Raises `ValueError` where the file is there already, and where nothing is found that could answer.
    """
    if path.exists():
        raise ValueError(f"{path}: there is one already; take it away, or give another name with --config")
    own = _runs(runs)
    keys = [known for known in KNOWN if environment.get(known.variable, "").strip()]
    if not own and not keys:
        names = ", ".join(known.variable for known in KNOWN)
        raise ValueError(
            f"nothing that could answer was found: make a run (`inhouse make preview`), or set one of {names}"
        )
    taken = _names(own)
    default = taken[0] if taken else keys[0].models[0][0]
    parts = [_HEAD.format(default=default)]
    parts += [_OWN.format(name=name, run=_quoted(_relative(run, path))) for name, run in zip(taken, own, strict=True)]
    parts += [_as_text(known, f"{known.name}-api" if known.name in taken else known.name) for known in keys]
    path.write_text("".join([*parts, _TAIL]), encoding="utf-8")
    return [f"{run}: a model of one's own" for run in own] + [f"{known.variable}: {known.name}" for known in keys]


def _runs(runs: Path) -> list[Path]:
    """Those with a model, the newest first."""
    found = []
    for run in runs.iterdir() if runs.is_dir() else ():
        try:
            found.append((-find_model(run).stat().st_mtime, run))
        except ValueError:
            continue
    return [run for _, run in sorted(found)]


def _names(runs: Sequence[Path]) -> list[str]:
    """What the gateway calls them: as their folders, where that can be a name; each another one."""
    names: list[str] = []
    for run in runs:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", run.name).strip("._-") or "run"
        name = f"{name}-run" if name == AUTO else name
        taken, number = name, 2
        while taken in names:
            taken, number = f"{name}-{number}", number + 1
        names.append(taken)
    return names


def _quoted(path: Path) -> str:
    """As a string of TOML, whatever the folder is called."""
    return json.dumps(str(path), ensure_ascii=False).replace("\x7f", "\\u007f")


def _relative(run: Path, path: Path) -> Path:
    """As the file says it: relative to the file's folder where it lies in it."""
    folder = path.resolve().parent
    whole = run.resolve()
    return whole.relative_to(folder) if whole.is_relative_to(folder) else whole


def _as_text(known: Known, name: str) -> str:
    address = f'url = "{known.url}"\n' if known.url else ""
    limit = f"\n  max_output = {known.max_output}" if known.max_output else ""
    models = "".join(_MODEL.format(name=model, context=context, limit=limit) for model, context in known.models)
    return _OTHER.format(variable=known.variable, name=name, dialect=known.dialect, address=address) + models
