"""The user's own conversations, of those that fine-tuning held out: how well answers are foreseen, what is answered."""

import json
import math
from itertools import islice
from pathlib import Path

import torch

from inhouse.common.progress import Progress
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.evaluate.bits_per_byte import token_nats
from inhouse.evaluate.harness import Sample, complete
from inhouse.evaluate.score import Score, ratio
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import encode_conversation, encode_prompt
from inhouse.posttrain.conversations import TAUGHT
from inhouse.posttrain.messages import Message
from inhouse.posttrain.rows.encode import HELDOUT

KIND, TAUGHT_KIND = "own", "own_trained_on"  # held out; or, of too few to hold any out, some that were trained on
_WHICH = {KIND: "were held out", TAUGHT_KIND: "the model was trained on: none was held out"}
_MOST = 200  # conversations


def own_conversations(folder: Path) -> tuple[str, list[list[Message]]]:
    """The kind and the messages of what the model in `folder` is asked: what it was not taught, where there is any."""
    for kind, name in ((KIND, HELDOUT), (TAUGHT_KIND, TAUGHT)):
        if (path := folder / name).is_file():
            with path.open(encoding="utf-8") as lines:
                return kind, [json.loads(line)["messages"] for line in islice(lines, _MOST)]
    return KIND, []


@torch.inference_mode()
def answers_bits_per_byte(
    model: Transformer, tokenizer: Tokenizer, conversations: list[list[Message]], template: str, kind: str = KIND
) -> Score | None:
    """Bits for the assistant's parts given all before them, by their bytes; the standard error is over conversations.

    Longer ones are read up to the model's context; None where no answer begins within it.
    """
    bits, sizes = [], []
    device = model.embed_tokens.weight.device
    with Progress("own conversations", len(conversations), "conversations") as progress:
        for messages in conversations:
            encoded = encode_conversation(tokenizer, messages, template)
            ids = torch.tensor(encoded.ids[: model.config.max_position + 1], device=device)
            is_answer = torch.tensor(encoded.trained[1 : len(ids)], device=device)
            if is_answer.any():
                answer, hidden_TD = ids[1:][is_answer], model(ids[None, :-1]).hidden_BTD[0]
                bits.append(token_nats(model, hidden_TD[is_answer], answer).double().sum().item() / math.log(2))
                sizes.append(len(tokenizer.decode_bytes(answer.tolist())))
            progress.update()
    return ratio(bits, sizes, f"the assistant's parts of own conversations that {_WHICH[kind]}") if sizes else None


def ask(
    engine: Engine,
    tokenizer: Tokenizer,
    conversations: list[list[Message]],
    max_tokens: int,
    template: str,
    kind: str = KIND,
) -> list[Sample]:
    """The model's last answer of each conversation, greedily, beside the one that stands there; nobody scores it.

    A question that fills the whole context is left out.
    """
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
    prompts, asked = [], []
    for messages in conversations:
        last = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
        prompt = encode_prompt(tokenizer, messages[:last], template) if last else []
        if 0 < len(prompt) < engine.max_context:
            prompts.append(prompt)
            asked.append((said(messages[last - 1]), said(messages[last])))
    return [
        Sample(kind, question, answer, completion.text, None, None, completion.finish_reason == "stop")
        for (question, answer), completion in zip(
            asked, complete(engine, prompts, params, "own questions"), strict=True
        )
    ]


def said(message: Message) -> str:
    """A message as a reader sees it: its text, and below it what it calls."""
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [message.get("content"), *calls]))
