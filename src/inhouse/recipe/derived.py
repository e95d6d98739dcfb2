"""`inhouse make --dry-run`: every number of a recipe, written or derived, and the rule that gave it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from rich.table import Table

from inhouse.model.sizes import Derived
from inhouse.recipe.recipe import Recipe
from inhouse.train.step_count import plan_steps

_SET, _DEFAULT = "recipe", "default"


class Number(NamedTuple):
    """One value: which table of the recipe it belongs to, and where it comes from."""

    section: str
    name: str
    value: object
    rule: str


def all_numbers(recipe: Recipe) -> list[Number]:
    """Everything that carrying out a recipe would use, in the order of the pipeline. Runs and writes nothing.

    Raises `ValueError` where the numbers do not fit together.
    """
    config, shape = recipe.model.resolve(recipe.tokenizer.vocab_size)
    derived = {
        "model": shape,
        "pretrain": plan_steps(recipe.pretrain, config, recipe.parallel)[1],
        "parallel": [Derived("processes", recipe.parallel.processes, "replicate × shard × context")],
    }
    numbers = []
    for name in type(recipe).model_fields:
        if isinstance(settings := getattr(recipe, name), BaseModel):
            written = _written(name, settings)
            numbers += [n for n in written if name != "model" or n.name in ("architecture", "size", "context")]
            numbers += [Number(name, *each) for each in derived.get(name, ())]
        else:
            numbers.append(Number("", name, settings, _origin(recipe, name)))
    return numbers


def table(numbers: list[Number]) -> Table:
    """The numbers as a table for the terminal."""
    drawn = Table(box=None, pad_edge=False)
    for column in ("", "setting", "value", "rule"):
        drawn.add_column(column, overflow="fold")
    section = None
    for number in numbers:
        if section not in (None, number.section):
            drawn.add_section()
        shown = f"[{number.section}]".replace("[", r"\[") if number.section and number.section != section else ""
        section = number.section
        style = {_DEFAULT: "dim", _SET: ""}.get(number.rule, "cyan")
        drawn.add_row(shown, number.name, _show(number.value), number.rule.replace("[", r"\["), style=style)
    return drawn


def _written(section: str, settings: BaseModel, prefix: str = "") -> Iterator[Number]:
    """Every setting of a table, nested tables and lists of tables spread out."""
    for name in type(settings).model_fields:
        value, rule = getattr(settings, name), _origin(settings, name)
        if isinstance(value, BaseModel):
            yield from _written(section, value, f"{prefix}{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for i, part in enumerate(value):
                yield from _written(section, part, f"{prefix}{name}.{i}.")
        elif isinstance(value, dict) and value:
            yield from (Number(section, f"{prefix}{name}.{key}", each, rule) for key, each in value.items())
        else:
            yield Number(section, prefix + name, value, rule)


def _origin(settings: BaseModel, name: str) -> str:
    return _SET if name in settings.model_fields_set else _DEFAULT


def _show(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= value < 1e12 else f"{value:.4g}"
    if isinstance(value, tuple | dict):
        return ", ".join(map(str, value)) or "none"
    return str(value).replace("[", r"\[")
