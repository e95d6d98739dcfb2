"""Command-line options made from settings types, so that every setting has one and none has two meanings."""

import inspect
import tomllib
import types
import typing
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from inhouse.common.settings import Settings
from inhouse.recipe.errors import words

Verb = TypeVar("Verb", bound=Callable[..., None])
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a ready recipe.")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")]
Runs = Annotated[Path, typer.Option(help="The folder of all runs.")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A run, an exported or a Hugging Face folder.")]
Dtype = Annotated[
    str, typer.Option(metavar="auto|fp32|bf16", help="What the model computes in; auto: as its weights are stored.")
]
Output = Annotated[Path | None, typer.Option(metavar="FILE", help="With --emit: write it there.")]


def write_manifest(text: str, output: Path | None) -> None:
    """What `--emit` gives, to where `--output` says."""
    print(text, end="") if output is None else output.write_text(text, encoding="utf-8")


def with_settings(*kinds: type[Settings]) -> Callable[[Verb], Verb]:
    """Gives a verb an option for every field of these types; as `settings` it is called with one of each, in order.

    A value is that of the option, else of the environment variable INHOUSE_NAME, else of the key in the file given as
    --settings, else the default. Raises `ValueError` with a sentence for what does not fit.
    """
    fields = {name: field for kind in kinds for name, field in kind.model_fields.items()}

    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def run(settings_file: Path | None, **given: Any) -> None:
            set_here = {name: given.pop(name) for name in fields}
            values = _read(settings_file, fields) | {name: v for name, v in set_here.items() if v not in (None, [])}
            verb(settings=tuple(_checked(kind, values) for kind in kinds), **given)

        own = inspect.signature(verb, eval_str=True)
        file = Annotated[
            Path | None, typer.Option("--settings", metavar="FILE", help="A TOML file of the settings below.")
        ]
        options = {"settings_file": file} | {name: _option(name, field) for name, field in fields.items()}
        parameters = [each for name, each in own.parameters.items() if name != "settings"]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in options.items()
        ]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return typing.cast(Verb, run)

    return decorate


def as_flags(settings: Settings) -> list[str]:
    """The options that give these settings again: those that somebody gave, wherever."""
    flags: list[str] = []
    for name in type(settings).model_fields:
        value, flag = getattr(settings, name), f"--{name.replace('_', '-')}"
        if name not in settings.model_fields_set or value is None:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        else:
            flags += [f"{flag}={each}" for each in (value if isinstance(value, tuple) else (value,))]
    return flags


def _option(name: str, field: FieldInfo) -> Any:
    """The annotation that typer makes an option of: no value where it is not given."""
    kind: Any = field.annotation
    flag = f"--{name.replace('_', '-')}"
    if isinstance(kind, types.UnionType):
        (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
    if typing.get_origin(kind) is Annotated:  # PositiveInt: what it may be, the settings say
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is tuple:
        kind = types.GenericAlias(list, typing.get_args(kind)[:1])
    default = "" if field.default in (None, ()) else f"; default: {str(field.default).lower()}"
    help = f"{field.description}{default}"
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    option = typer.Option(*names, help=help, envvar=_variable(name), show_default=False)
    return Annotated[kind | None, option]


def _variable(name: str) -> str:
    return f"INHOUSE_{name.upper()}"


def _read(file: Path | None, fields: dict[str, FieldInfo]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from error
    if unknown := sorted(values.keys() - fields.keys()):
        raise ValueError(f"{file}: there is no setting {unknown[0]}; there are {', '.join(fields)}")
    return values


def _checked(kind: type[Settings], values: dict[str, Any]) -> Settings:
    try:
        return kind(**{name: value for name, value in values.items() if name in kind.model_fields})
    except ValidationError as error:
        detail = error.errors()[0]
        name = str(detail["loc"][0])
        where = f"--{name.replace('_', '-')} (in --settings {name}, else {_variable(name)})"
        raise ValueError(f"{where}: {detail['input']!r} {words(detail)}") from error
