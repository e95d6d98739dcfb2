"""The user's own conversations that fine-tuning held out: how well their answers are foreseen, and what is answered."""

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
from inhouse.posttrain.encode import HELDOUT
from inhouse.posttrain.messages import Message

KIND = "own"
_MOST = 200  # conversations


def own_conversations(folder: Path) -> list[list[Message]]:
    """What the model in `folder` was not taught of the user's conversations; none where nothing was held out."""
    path = folder / HELDOUT
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["messages"] for line in islice(lines, _MOST)]


@torch.inference_mode()
def answers_bits_per_byte(
    model: Transformer, tokenizer: Tokenizer, conversations: list[list[Message]], template: str
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
    return ratio(bits, sizes, "the assistant's parts of own conversations that were held out") if sizes else None


def ask(
    engine: Engine, tokenizer: Tokenizer, conversations: list[list[Message]], max_tokens: int, template: str
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
        Sample(KIND, question, answer, completion.text, None, None, completion.finish_reason == "stop")
        for (question, answer), completion in zip(
            asked, complete(engine, prompts, params, "own questions"), strict=True
        )
    ]


def said(message: Message) -> str:
    """A message as a reader sees it: its text, and below it what it calls."""
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [message.get("content"), *calls]))
