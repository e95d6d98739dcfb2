"""What an answer must be: JSON of a schema, or what an expression or a grammar matches."""

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inhouse.api.wire.fields import JsonObject, Request

MAX_GRAMMAR = 131_072  # characters of a schema, a regex, a grammar, or of all tools' parameters together


class StructuredOutputs(Request):
    """What an answer must be, as vLLM has it: exactly one of these. `grammar` is in llguidance's dialect of Lark."""

    json_schema: JsonObject | None = Field(default=None, alias="json")
    regex: str | None = Field(default=None, min_length=1, max_length=MAX_GRAMMAR)
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, min_length=1)
    grammar: str | None = Field(default=None, min_length=1, max_length=MAX_GRAMMAR)

    @field_validator("json_schema", mode="before")
    @classmethod
    def _schema_or_its_text(cls, schema: Any) -> Any:
        return _read_schema(schema) if isinstance(schema, str) else schema

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        if len([each for each in (self.json_schema, self.regex, self.choice, self.grammar) if each is not None]) != 1:
            raise PydanticCustomError("not_one", "give exactly one of json, regex, choice and grammar")
        return self


def _read_schema(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PydanticCustomError("not_json", "the schema is not JSON") from None


class JsonSchema(Request):
    """A schema with its name; answers obey it whether `strict` or not."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: JsonObject = Field(default={}, alias="schema")
    strict: bool = False


class ResponseFormat(Request):
    """`text`, any JSON object, or JSON of a schema."""

    model_config = ConfigDict(frozen=True)  # pydantic copies defaults that are not, for every request
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "ResponseFormat":
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise PydanticCustomError("json_schema", "json_schema belongs to the type json_schema, and only to that")
        return self
