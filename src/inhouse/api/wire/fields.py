"""What the wire types of every API here are made of: their strict base, and fields that need more than a type."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import (
    no_info_after_validator_function,
    no_info_before_validator_function,
    with_info_before_validator_function,
)

from inhouse.api.errors import ApiError, from_validation
from inhouse.api.wire.images import takes_images

MAX_STOP_STRINGS = 4
MAX_STOP_CHARACTERS = 1000
MAX_PARTS = 4096
IGNORED = frozenset({
    "user", "store", "metadata", "safety_identifier", "service_tier", "prediction",
    "verbosity", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
})  # fmt: skip
STOP = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARACTERS}
STOPS = {"type": "array", "items": STOP, "maxItems": MAX_STOP_STRINGS}


def neutral(*values: Any) -> "Neutral":
    """Accept only values that ask for nothing."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(known) and value == known for known in values):  # 0 is not false
            raise PydanticCustomError("unsupported", "this server does not support it; leave it out")
        return value

    return Neutral(values, check)


class Neutral(NamedTuple):
    """Both what validates and what the OpenAPI document says of it."""

    values: tuple[Any, ...]
    check: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> Any:
        return {"enum": [*self.values, None]}


def misfit(param: str, why: str) -> ApiError:
    """For fields that are fine alone and wrong together: a model's own validator cannot name a field to pydantic."""
    return ApiError(400, f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")


class Request(BaseModel):
    """Strict types; a null means that the field was left out, as the API has it, and 5.0 is the whole number 5."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    ignored: ClassVar[frozenset[str]] = IGNORED  # fields that change nothing about the answer

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> Any:
        """What may be left out may be null; what is ignored may be anything."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        required = schema.get("required", [])
        for name, field in schema.get("properties", {}).items():
            if name not in required and {"type": "null"} not in field.get("anyOf", []):
                kept = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
                schema["properties"][name] = kept | {"anyOf": [dict(field), {"type": "null"}]}
        schema["properties"] = schema.get("properties", {}) | {name: {} for name in sorted(cls.ignored)}
        return schema

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {key: value for key, value in data.items() if value is not None and key not in cls.ignored}
        # JavaScript and others have one kind of numbers, and write 5 as 5.0
        return {key: int(each) if type(each) is float and each.is_integer() else each for key, each in known.items()}

    @classmethod
    def parse(cls, raw: bytes, images: bool = False) -> Self:
        """A body, or the `ApiError` that says what is wrong with it. Megabytes take time: not for the event loop.
        `images`: whether messages may have some."""
        try:
            return cls.model_validate_json(raw, context={"images": True} if images else None)
        except ValidationError as error:
            raise from_validation(error) from error


class OneOf(NamedTuple):
    """Of several kinds of objects the one that `type` names, so that what is wrong is told of that kind alone."""

    kinds: Mapping[str, type[Request]]
    default: str | None = None  # where there is no type
    words: tuple[str, ...] = ()  # that may stand instead of an object
    of_images: Mapping[str, type[Request]] = {}  # for who parses with images

    def pick(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Request) or (isinstance(value, str) and value in self.words):
            return value
        kind = (value.get("type") or self.default) if isinstance(value, dict) else None
        kinds = {**self.kinds, **self.of_images} if takes_images(info) else self.kinds
        if not isinstance(kind, str) or kind not in kinds:
            known = ", ".join([*self.words, f"an object of type {' or '.join(kinds)}"])
            raise PydanticCustomError("unsupported", "it must be {known}", {"known": known})
        return kinds[kind].model_validate(value, context=info.context)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return with_info_before_validator_function(self.pick, handler(source))

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> Any:
        """Without what only some take: the document says what everybody here does."""
        schema, hidden = handler(core_schema), [kind.__name__ for kind in self.of_images.values()]
        if hidden:
            kinds = schema["anyOf"]
            schema["anyOf"] = [kind for kind in kinds if not any(name in kind.get("$ref", "") for name in hidden)]
        return schema


class OrText(NamedTuple):
    """A list, or a text, which stands for a list of one: `item` with the text under `key`."""

    item: Mapping[str, str]
    key: str = "text"

    def as_list(self, value: Any) -> Any:
        return [{**self.item, self.key: value}] if isinstance(value, str) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self.as_list, handler(source))

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> Any:
        return {"anyOf": [{"type": "string"}, handler(core_schema)]}


CacheSalt = Annotated[
    str, Field(min_length=1, max_length=1000, description="not in the API; prefixes are shared under the same one only")
]


def _few_and_short(stop: list[str]) -> list[str]:
    if len(stop) > MAX_STOP_STRINGS:
        raise PydanticCustomError("too_many", f"at most {MAX_STOP_STRINGS} stop strings are allowed")
    if any(not 1 <= len(text) <= MAX_STOP_CHARACTERS for text in stop):
        raise PydanticCustomError("length", f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters")
    return stop


StopStrings = Annotated[list[str], AfterValidator(_few_and_short), WithJsonSchema(STOPS)]


def _is_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise PydanticCustomError("not_json", "it holds a number that is none, or is nested too deeply") from None
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_is_json)]  # pydantic reads NaN, which others cannot


def _num_parts(items: Any) -> int:
    contents = [item.get("content") for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return sum(len(content) + _num_parts(content) for content in contents if isinstance(content, list))


def _few_parts(items: Any) -> Any:
    if _num_parts(items) > MAX_PARTS:
        raise PydanticCustomError("too_many", f"at most {MAX_PARTS} parts of content are allowed")
    return items


FewParts = BeforeValidator(_few_parts)  # of messages: counted before each of their parts becomes an object
