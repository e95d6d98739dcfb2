"""Writes the tables of docs/gateway-config.md from the settings types: python docs/gateway_config.py"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from inhouse.gateway.config.config import GatewayConfig

PAGE = Path(__file__).with_name("gateway-config.md")
BLOCK = re.compile(r"(?<=<!-- keys -->\n).*?(?=<!-- end -->)", re.DOTALL)


def tables(kind: type[BaseModel] = GatewayConfig, name: str = "") -> Iterator[str]:
    """A heading, what it is, and a row for each key; then the tables inside."""
    inner = {key: found for key, field in kind.model_fields.items() if (found := model_in(field.annotation))}
    rows = [row(key, field) for key, field in kind.model_fields.items() if key not in inner]
    if name:
        yield f"### {name}\n\n{' '.join((kind.__doc__ or '').split())}\n\n"
    if rows:
        yield "| key | default | |\n| --- | --- | --- |\n" + "".join(rows) + "\n"
    for key, (found, is_list) in inner.items():
        whole = f"{name.strip('[]')}.{key}".strip(".")
        yield from tables(found, f"[[{whole}]]" if is_list else f"[{whole}]")


def row(key: str, field: FieldInfo) -> str:
    return f"| `{key}` | {default_of(field)} | {(field.description or '').replace('|', chr(92) + '|')} |\n"


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.default
    if value in (None, (), {}, "") or value == Path():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def model_in(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The settings type that a key's table has, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        if found := model_in(argument):
            return found[0], get_origin(annotation) is tuple
    return None


def filled(page: str) -> str:
    """The page with the tables as they are now."""
    return BLOCK.sub(lambda _: "\n" + "".join(tables()), page)


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
