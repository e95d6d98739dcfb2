"""`inhouse make --dry-run`: every number of a recipe, written or derived, and the rule that gave it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from rich.table import Table

from inhouse.checkpoint.shape import resolve_shape
from inhouse.common.lineage import OPTIONAL_STAGES
from inhouse.model.config import ModelConfig
from inhouse.model.sizes import Derived
from inhouse.posttrain.step_count import plan_sft
from inhouse.recipe.base import rules_of
from inhouse.recipe.dial import updates
from inhouse.recipe.lines import Location
from inhouse.recipe.passes import Passes
from inhouse.recipe.recipe import Recipe
from inhouse.rl.plan import plan_climb
from inhouse.train.step_count import after_pretraining, lengthened, midtrains, plan_steps, pretrains

_SET, _DEFAULT = "recipe", "default"
_OF_A_SIZE, _OF_A_BASE = ("architecture", "size", "context"), ("base", "base_licence", "architecture", "context")
_NO_STEPS = Derived("steps", 0, "no [pretrain] tokens: the base's weights are taken as they are")
Rules = Mapping[Location, str]  # by table and key
_FIRST = ("lr_factor", "tokens", "tokens_per_parameter", "epochs", "conversations", "batch_tokens", "sequence_length")


class Number(NamedTuple):
    """One value: which table of the recipe it belongs to, and where it comes from."""

    section: str
    name: str
    value: object
    rule: str


def all_numbers(recipe: Recipe, passes: Passes | None = None) -> list[Number]:
    """Everything that carrying out a recipe would use, in the order of the pipeline. Runs and writes nothing.

    Those of `passes` stand among pretraining's. Raises `ValueError` where the numbers do not fit together.
    """
    config, shape = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
    trained = pretrains(recipe.pretrain, recipe.model)
    steps = plan_steps(recipe.pretrain, config, recipe.parallel)[1] if trained else [_NO_STEPS]
    rules, of_model = rules_of(recipe.model, recipe.export), _OF_A_BASE if recipe.model.base else _OF_A_SIZE
    derived = {
        "model": shape,
        "pretrain": [
            *steps,
            *(updates(recipe.pretrain, config) if trained else ()),
            *(passes.numbers() if passes else ()),
        ],
        "midtrain": _midtraining(recipe, after_pretraining(recipe.pretrain, recipe.model, config)),
        "sft": plan_sft(recipe.sft, recipe.seed),
        "rl": plan_climb(recipe.rl, lengthened(config, recipe.midtrain) if midtrains(recipe.midtrain) else config),
        "parallel": [Derived("processes", recipe.parallel.processes, "replicate × shard × context")],
    }
    numbers = []
    for name in type(recipe).model_fields:
        if name in OPTIONAL_STAGES and not derived[name]:
            continue
        if isinstance(settings := getattr(recipe, name), BaseModel):
            written = sorted(_written(name, settings, rules), key=_rank)
            numbers += [n for n in written if name != "model" or n.name in of_model]
            numbers += [Number(name, *each) for each in derived.get(name, ())]
        else:
            numbers.append(Number("", name, settings, _origin("", recipe, name, rules)))
    return numbers


def _midtraining(recipe: Recipe, config: ModelConfig) -> list[Derived]:
    if not midtrains(recipe.midtrain):
        return []
    longer = lengthened(config, recipe.midtrain)
    context = Derived("context", longer.max_position, "[model] context, or sequence_length where that is more")
    return [context, *plan_steps(recipe.midtrain, longer, recipe.parallel)[1]]


def table(numbers: list[Number]) -> Table:
    """The numbers as a table, for `print_rich`, which takes no text for markup."""
    drawn = Table(box=None, pad_edge=False)
    for column in ("", "setting", "value", "rule"):
        drawn.add_column(column, overflow="fold")
    section = None
    for number in numbers:
        if section not in (None, number.section):
            drawn.add_section()
        shown = f"[{number.section}]" if number.section and number.section != section else ""
        section = number.section
        style = "dim" if number.rule.startswith(_DEFAULT) else "" if number.rule == _SET else "cyan"
        drawn.add_row(shown, number.name, _show(number.value), number.rule, style=style)
    return drawn


def _rank(number: Number) -> int:
    """What is turned most often comes first; the rest stays in the order of its type."""
    return _FIRST.index(number.name) if number.name in _FIRST else len(_FIRST)


def _written(section: str, settings: BaseModel, rules: Rules, prefix: str = "") -> Iterator[Number]:
    """Every setting of a table, nested tables and lists of tables spread out."""
    for name in type(settings).model_fields:
        value, rule = getattr(settings, name), _origin(section, settings, name, rules, prefix)
        if isinstance(value, BaseModel):
            yield from _written(section, value, rules, f"{prefix}{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for i, part in enumerate(value):
                yield from _written(section, part, rules, f"{prefix}{name}.{i}.")
        elif isinstance(value, dict) and value:
            yield from (Number(section, f"{prefix}{name}.{key}", each, rule) for key, each in value.items())
        else:
            yield Number(section, prefix + name, value, rule)


def _origin(section: str, settings: BaseModel, name: str, rules: Rules, prefix: str = "") -> str:
    """Who says so: the recipe, a rule, or the default; of a default that is not a value, what it stands for."""
    if name in settings.model_fields_set:
        return _SET
    if rule := rules.get((section, prefix + name)):
        return rule
    _, told, meaning = (type(settings).model_fields[name].description or "").partition("default: ")
    return f"{_DEFAULT}: {meaning}" if told and getattr(settings, name) is None else _DEFAULT


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= value < 1e12 else f"{value:.4g}"
    return (", ".join(map(str, value)) or "none") if isinstance(value, tuple | dict) else str(value)
