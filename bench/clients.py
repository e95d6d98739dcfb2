"""Which clients work with `inhouse serve`, each in the ways that its users have, against a tiny model.

    python bench/clients.py [--only NAME] [--write]

The model's weights are random: what it says is noise, and what must be JSON or a call of a tool is one because the
server bounds it. Prints a row for every way of every client; a way fails with what it raised. `--write` puts the table
into docs/clients.md. The exit status is 0 where all pass. Needs the `clients` extra, and no network.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from tiny_server import NAME, served

PAGE = Path(__file__).parents[1] / "docs/clients.md"
QUESTION = "What is the weather in Rome?"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
TOKENS = 2000  # an answer of random weights may be long before it closes its brackets


class City(Enum):
    ROME = "Rome"
    OSLO = "Oslo"


class Weather(BaseModel):
    """The weather of a city."""

    city: City
    is_raining: bool


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "is_raining": {"type": "boolean"}},
    "required": ["city", "is_raining"],
    "additionalProperties": False,
}


class Anything(BaseModel):
    """What any JSON object is: modes that only promise JSON promise no more."""


class Way(NamedTuple):
    """One way of using a client; `run` raises where it does not work."""

    client: str
    what: str
    run: Callable[[str], None]


WAYS: list[Way] = []


def way(client: str, what: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    def add(run: Callable[[str], None]) -> Callable[[str], None]:
        WAYS.append(Way(client, what, run))
        return run

    return add


# openai


def _openai(url: str) -> Any:
    from openai import OpenAI

    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@way("openai", "chat, whole and streamed")
def _(url: str) -> None:
    chat = _openai(url).chat.completions
    whole = chat.create(model=NAME, messages=MESSAGES, max_tokens=20, temperature=0)
    parts = chat.create(model=NAME, messages=MESSAGES, max_tokens=20, temperature=0, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content


@way("openai", "chat: tools, whole and streamed")
def _(url: str) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}]
    options = {"model": NAME, "messages": MESSAGES, "tools": tools, "tool_choice": "required", "max_tokens": TOKENS}
    (call, *_) = _openai(url).chat.completions.create(**options).choices[0].message.tool_calls
    Weather.model_validate_json(call.function.arguments)
    with _openai(url).chat.completions.stream(**options) as stream:
        (call, *_) = stream.get_final_completion().choices[0].message.tool_calls
    Weather.model_validate_json(call.function.arguments)


@way("openai", "chat: `parse` into a type")
def _(url: str) -> None:
    answer = _openai(url).chat.completions.parse(
        model=NAME, messages=MESSAGES, response_format=Weather, max_tokens=TOKENS
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)


@way("openai", "chat: JSON mode")
def _(url: str) -> None:
    answer = _openai(url).chat.completions.create(
        model=NAME, messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=TOKENS, seed=1
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@way("openai", "responses, whole and streamed")
def _(url: str) -> None:
    responses = _openai(url).responses
    whole = responses.create(model=NAME, input=QUESTION, max_output_tokens=20, temperature=0)
    parts = responses.create(model=NAME, input=QUESTION, max_output_tokens=20, temperature=0, stream=True)
    assert "".join(part.delta for part in parts if part.type == "response.output_text.delta") == whole.output_text


@way("openai", "responses: tools, and their results")
def _(url: str) -> None:
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
    options = {"model": NAME, "tools": [tool], "tool_choice": "required", "max_output_tokens": TOKENS}
    call, *_ = _openai(url).responses.create(input=QUESTION, **options).output
    Weather.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "20"}
    _openai(url).responses.create(input=[*MESSAGES, call, result], **options)


@way("openai", "responses: `parse` into a type")
def _(url: str) -> None:
    answer = _openai(url).responses.parse(model=NAME, input=QUESTION, text_format=Weather, max_output_tokens=TOKENS)
    assert isinstance(answer.output_parsed, Weather)


@way("openai", "chat and responses: reasoning effort")
def _(url: str) -> None:
    for effort in ("none", "low", "high"):
        answer = _openai(url).chat.completions.create(
            model=NAME, messages=MESSAGES, max_tokens=20, reasoning_effort=effort
        )
        assert answer.usage.completion_tokens_details.reasoning_tokens <= 20
        _openai(url).responses.create(
            model=NAME, input=QUESTION, max_output_tokens=20, reasoning={"effort": effort, "summary": "auto"}
        )


@way("openai", "embeddings")
def _(url: str) -> None:
    one, two = _openai(url).embeddings.create(model=NAME, input=["a", "b"]).data
    assert len(one.embedding) == len(two.embedding) > 0


# anthropic


def _anthropic(url: str) -> Any:
    from anthropic import Anthropic

    return Anthropic(base_url=url, api_key="none", max_retries=0)


@way("anthropic", "messages, whole and streamed")
def _(url: str) -> None:
    options = {"model": NAME, "messages": MESSAGES, "system": "Be brief.", "max_tokens": 20}
    _anthropic(url).messages.create(**options)
    with _anthropic(url).messages.stream(**options) as stream:
        assert "".join(stream.text_stream) == "".join(block.text for block in stream.get_final_message().content)


@way("anthropic", "messages: tools, and their results")
def _(url: str) -> None:
    tool = {"name": "weather", "description": "The weather.", "input_schema": SCHEMA}
    options = {"model": NAME, "tools": [tool], "tool_choice": {"type": "any"}, "max_tokens": TOKENS}
    answer = _anthropic(url).messages.create(messages=MESSAGES, **options)
    Weather.model_validate_json(json.dumps(answer.content[0].input))
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "20"} for call in answer.content]
    said = [*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    with _anthropic(url).messages.stream(messages=said, **options) as stream:
        Weather.model_validate_json(json.dumps(stream.get_final_message().content[0].input))


@way("anthropic", "messages: `parse` into a type")
def _(url: str) -> None:
    answer = _anthropic(url).messages.parse(model=NAME, messages=MESSAGES, output_format=Weather, max_tokens=TOKENS)
    assert isinstance(answer.parsed_output, Weather)


@way("anthropic", "messages: thinking, effort, beta")
def _(url: str) -> None:
    options = {"model": NAME, "messages": MESSAGES, "max_tokens": 1100}
    for thinking in ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}):
        with _anthropic(url).messages.stream(thinking=thinking, output_config={"effort": "low"}, **options) as stream:
            stream.get_final_message()
    edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    _anthropic(url).beta.messages.create(betas=["context-management-2025-06-27"], context_management=edits, **options)


@way("anthropic", "models")
def _(url: str) -> None:
    assert [model.id for model in _anthropic(url).models.list()] == [NAME]


@way("anthropic", "count_tokens")
def _(url: str) -> None:
    assert _anthropic(url).messages.count_tokens(model=NAME, messages=MESSAGES).input_tokens > 0


# llm


def _llm(url: str) -> Any:
    from llm.default_plugins.openai_models import Chat

    return Chat(NAME, model_name=NAME, api_base=f"{url}/v1", key="none", supports_schema=True, supports_tools=True)


@way("llm", "prompt, whole and streamed")
def _(url: str) -> None:
    for stream in (False, True):
        assert _llm(url).prompt(QUESTION, system="Be brief.", stream=stream, max_tokens=20, temperature=0).text()


@way("llm", "schema")
def _(url: str) -> None:
    answer = _llm(url).prompt(QUESTION, schema=Weather, stream=False, max_tokens=TOKENS)
    Weather.model_validate_json(answer.text())


@way("llm", "tools, offered")
def _(url: str) -> None:
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"Rain in {city}."

    answer = _llm(url).prompt(QUESTION, tools=[weather], stream=False, max_tokens=20)
    answer.text()
    answer.execute_tool_calls()


# langchain-openai


def _langchain(url: str, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    given = {"model": NAME, "base_url": f"{url}/v1", "api_key": "none", "max_retries": 0, "max_tokens": TOKENS}
    return ChatOpenAI(**given | options)


@way("langchain-openai", "invoke and stream")
def _(url: str) -> None:
    for responses in (False, True):
        chat = _langchain(url, max_tokens=20, temperature=0, use_responses_api=responses)
        whole = chat.invoke([("system", "Be brief."), ("human", QUESTION)])
        parts = list(chat.stream([("system", "Be brief."), ("human", QUESTION)]))
        assert "".join(part.text for part in parts) == whole.text


@way("langchain-openai", "bind_tools, and their results")
def _(url: str) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    chat = _langchain(url).bind_tools([Weather], tool_choice="any", parallel_tool_calls=False)
    answer = chat.invoke([HumanMessage(QUESTION)])
    (call,) = answer.tool_calls
    Weather.model_validate_json(json.dumps(call["args"]))
    chat.invoke([HumanMessage(QUESTION), answer, ToolMessage("20", tool_call_id=call["id"])])


@way("langchain-openai", "structured output: schema, tool, Responses")
def _(url: str) -> None:
    for method in ("json_schema", "function_calling"):
        for responses in (False, True):
            chat = _langchain(url, use_responses_api=responses)
            assert isinstance(chat.with_structured_output(Weather, method=method).invoke(QUESTION), Weather)


@way("langchain-openai", "structured output: JSON mode")
def _(url: str) -> None:
    chat = _langchain(url, seed=1).with_structured_output(Anything, method="json_mode")
    assert isinstance(chat.invoke("Answer in JSON."), Anything)


@way("langchain-openai", "embeddings")
def _(url: str) -> None:
    from langchain_openai import OpenAIEmbeddings

    # it would cut texts by OpenAI's own tokens, which it would have to download
    made = OpenAIEmbeddings(model=NAME, base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False)
    assert len(made.embed_documents(["a", "b"])) == 2


# pydantic-ai


def _agent(url: str, output: Any = str, api: str = "chat", **options: Any) -> Any:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(openai_client=AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
    kind = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}[api]
    settings = {"max_tokens": TOKENS, "seed": 1} if api == "chat" else {"max_tokens": TOKENS}
    return Agent(kind(NAME, provider=provider), output_type=output, model_settings=settings, **options)


@way("pydantic-ai", "text, whole and streamed, several system messages")
def _(url: str) -> None:
    import asyncio

    async def run() -> None:
        agent = _agent(url, system_prompt=("Be brief.", "Be kind."), instructions="Be right.")
        settings = {"max_tokens": 20}
        await agent.run(QUESTION, model_settings=settings)
        async with agent.run_stream(QUESTION, model_settings=settings) as stream:
            assert await stream.get_output()

    asyncio.run(run())


@way("pydantic-ai", "native output")
def _(url: str) -> None:
    from pydantic_ai import NativeOutput

    for api in ("chat", "responses"):
        assert isinstance(_agent(url, NativeOutput(Weather), api).run_sync(QUESTION).output, Weather)


@way("pydantic-ai", "tool output")
def _(url: str) -> None:
    from pydantic_ai import ToolOutput

    for api in ("chat", "responses"):
        assert isinstance(_agent(url, ToolOutput(Weather), api).run_sync(QUESTION).output, Weather)


@way("pydantic-ai", "prompted output (JSON mode)")
def _(url: str) -> None:
    from pydantic_ai import PromptedOutput

    assert isinstance(_agent(url, PromptedOutput(Anything)).run_sync(QUESTION).output, Anything)


# instructor


def _instructor(url: str, mode: str, output: Any, **options: Any) -> Any:
    import instructor

    client = instructor.from_openai(_openai(url), mode=instructor.Mode[mode])
    return client.create(
        model=NAME, messages=MESSAGES, response_model=output, max_retries=0, max_tokens=TOKENS, **options
    )


@way("instructor", "tools")
def _(url: str) -> None:
    assert isinstance(_instructor(url, "TOOLS", Weather), Weather)


@way("instructor", "JSON")
def _(url: str) -> None:
    assert isinstance(_instructor(url, "JSON", Anything, seed=1), Anything)


@way("instructor", "JSON schema")
def _(url: str) -> None:
    assert isinstance(_instructor(url, "JSON_SCHEMA", Weather), Weather)


@way("instructor", "tools of Anthropic's client")
def _(url: str) -> None:
    import instructor

    client = instructor.from_anthropic(_anthropic(url), mode=instructor.Mode.TOOLS)
    answer = client.create(model=NAME, messages=MESSAGES, response_model=Weather, max_retries=0, max_tokens=TOKENS)
    assert isinstance(answer, Weather)


def outcome(each: Way, url: str) -> str:
    """`pass`, or what was raised, in a line."""
    began = time.monotonic()
    try:
        each.run(url)
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:200]}"
    finally:
        print(f"{each.client}: {each.what}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return "pass"


def table(rows: list[tuple[Way, str]]) -> str:
    lines = ["| client | version | way | outcome |", "| --- | --- | --- | --- |"]
    names = {"pydantic-ai": "pydantic-ai-slim"}
    for each, result in rows:
        number = version(names.get(each.client, each.client))
        lines.append(f"| {each.client} | {number} | {each.what} | {result.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="the ways of one client")
    parser.add_argument("--write", action="store_true", help="the table into docs/clients.md")
    options = parser.parse_args()
    os.environ["LANGSMITH_TRACING"] = "false"
    with served() as url:
        rows = [(each, outcome(each, url)) for each in WAYS if options.only in (None, each.client)]
    print(table(rows))
    if options.write:
        head, mark, _ = PAGE.read_text(encoding="utf-8").partition("<!-- the table is written by bench/clients.py -->")
        PAGE.write_text(f"{head}{mark}\n\n{table(rows)}\n", encoding="utf-8")
    sys.exit(any(result != "pass" for _, result in rows))


if __name__ == "__main__":
    main()
