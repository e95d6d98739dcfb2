"""Tools: functions that the client runs, and which of them may or must be called."""

from typing import ClassVar, Literal

from pydantic import Field

from inhouse.api.wire.fields import IGNORED, JsonObject, Request

MAX_TOOLS = 128
MAX_NAMED_TOOLS = 1024  # in the API that bounds them by their characters


class Function(Request):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")
    description: str | None = None
    parameters: JsonObject = {}
    strict: bool = False


class Tool(Request):
    """A tool as the chat endpoint has it."""

    ignored: ClassVar = IGNORED | {"cache_control"}
    type: Literal["function"]
    function: Function


class FunctionName(Request):
    """The function that must be called."""

    name: str


class NamedTool(Request):
    """A `tool_choice` that names one."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Request):
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_NAMED_TOOLS)


class AllowedChoice(Request):
    """A `tool_choice` that leaves some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools
