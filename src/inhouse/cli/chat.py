"""The verb `chat`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inhouse.cli.options import Dtype, ModelPath
from inhouse.cli.terminal import ask, print_stream, warn_of_stale


def chat(
    model: ModelPath,
    prompt: Annotated[str | None, typer.Option(help="Ask this one thing, print the answer and end.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 512,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="For the same answer again at a temperature above 0.")] = None,
    dtype: Dtype = "auto",
) -> None:
    """Talk to a model. A base model, which knows no turns, goes on from the text instead."""
    from inhouse.chat import Model
    from inhouse.engine.request import SamplingParams

    warn_of_stale(model)
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    opened = Model.load(model, dtype)
    if opened.chat_template is None and (prompt is not None or not sys.stdin.isatty()):
        print("(a base model without a chat template: it goes on from your text)", file=sys.stderr)
    if prompt is not None:
        print_stream(opened.stream(prompt, params))
        return
    if sys.stdin.isatty():
        print(opening(model, opened.chat_template is not None), file=sys.stderr)
    messages: list[dict[str, Any]] = []
    while (line := ask()) is not None:
        messages = opened.recent([*messages, {"role": "user", "content": line}], max_tokens)
        said = print_stream(opened.stream(messages, params))
        messages.append({"role": "assistant", "content": said})


def opening(model: Path, is_chat: bool) -> str:
    """What somebody who begins to talk to a model should know of it, and how to leave."""
    from inhouse.common.model_paths import find_model, model_name
    from inhouse.posttrain.conversations import trained_on

    kinds = trained_on(find_model(model))
    if not is_chat:
        knows = "is a base model: it goes on from your text, and answers no questions"
    elif kinds:
        knows = f"was taught to answer {', '.join(kinds)}; what it says on anything else is a guess"
    else:
        knows = "answers what its conversations taught it"
    return f"{model_name(model)} {knows}. Ctrl-D leaves."
