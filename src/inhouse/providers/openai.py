"""OpenAI's dialect and that of `inhouse serve`: chats, legacy completions (of one prompt), embeddings."""

from typing import Any

from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.pieces import Content
from inhouse.providers import openai_chat as chat
from inhouse.providers.adapter import Adapter, Embedder, counted, field, number, usage_in
from inhouse.providers.answers import Embedded, Event, Logprobs, TokenLogprob
from inhouse.providers.errors import MalformedAnswer
from inhouse.providers.openai_chat import OURS, OpenAIReader

COMPLETIONS = {
    "max_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed", "stop": "stop",
    "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty", "logit_bias": "logit_bias",
    "echo": "echo", "logprobs": "logprobs", "best_of": "best_of, of one answer", "prompt.ids": "a list of token ids",
}  # fmt: skip
# not in it: several prompts or answers, which an `Answer` has no place for

_SAID_AS_IT_IS = (
    "max_tokens", "temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty", "logit_bias", "echo",
    "logprobs",
)  # fmt: skip


def body(request: CompletionRequest) -> dict[str, Any]:
    return {"model": request.model, "prompt": request.prompt[0]} | chat.as_they_are(request, _SAID_AS_IT_IS)


def read(answer: Any) -> list[Event]:
    """Of a whole answer."""
    return chat.read_one(answer, _said_in)


class CompletionReader(OpenAIReader):
    """The same stream with texts in its choices."""

    def _said_in(self, choice: Any) -> tuple[list[Event], bool]:
        return _said_in(choice)


def _said_in(choice: Any) -> tuple[list[Event], bool]:
    events: list[Event] = []
    if (scores := field(choice, "logprobs", dict, None)) is not None and field(scores, "tokens", list, []):
        events.append(Logprobs(_tokens(scores)))
    text = field(choice, "text", str, "")
    return [*events, *([Content(text)] if text else [])], False


def _tokens(scores: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """Of parallel lists. `top_logprobs` may be missing, or be null where nothing stands before a token."""
    tokens, logprobs = field(scores, "tokens", list), field(scores, "token_logprobs", list)
    tops = field(scores, "top_logprobs", list, None) or [None] * len(tokens)
    if not len(tokens) == len(logprobs) == len(tops):
        raise MalformedAnswer("the answer's lists of log-probabilities are of unequal length")
    made = []
    for token, logprob, top in zip(tokens, logprobs, tops, strict=True):
        known = {"token": token, "logprob": logprob}
        if not isinstance(top or {}, dict):
            raise MalformedAnswer('the answer has no proper "top_logprobs"')
        likely = tuple(TokenLogprob(name, number(top, name), None) for name in top or {})
        own = None if logprob is None else number(known, "logprob")
        made.append(TokenLogprob(field(known, "token", str), own, None, likely))
    return tuple(made)


_MOST = 2.0**127  # of a vector's numbers: what fp32 holds, as which clients may want them


def _embedding_body(request: EmbeddingRequest) -> dict[str, Any]:
    """As numbers, whatever the caller wants: not all endpoints know the other encoding."""
    return {"model": request.model, "input": request.input, "encoding_format": "float"}


def _embedded(answer: Any) -> Embedded:
    chat.raise_error(answer)
    found = {field(item, "index", int): field(item, "embedding", list) for item in field(answer, "data", list)}
    if sorted(found) != list(range(len(found))) or not found:
        raise MalformedAnswer("the answer's vectors are not numbered from 0 on")
    if not all(type(value) in (float, int) and abs(value) < _MOST for vector in found.values() for value in vector):
        raise MalformedAnswer("the answer has a vector of other things than numbers")  # NaN is less than nothing
    usage = usage_in(answer, "usage", lambda used: counted(field(used, "prompt_tokens", int)))
    return Embedded(field(answer, "model", str, ""), [found[place] for place in range(len(found))], usage)


def _salted_body(request: EmbeddingRequest) -> dict[str, Any]:
    return _embedding_body(request) | ({} if request.cache_salt is None else {"cache_salt": request.cache_salt})


EMBEDDINGS = Embedder("/embeddings", _embedding_body, _embedded)


OPENAI_COMPLETIONS = Adapter(
    "OpenAI completions", lambda _: "/completions", COMPLETIONS, chat.headers, body, read, CompletionReader, chat.error
)
OPENAI = Adapter(
    "OpenAI chat completions", lambda _: "/chat/completions", chat.EXPRESSES, chat.headers, chat.body, chat.read,
    OpenAIReader, chat.error, OPENAI_COMPLETIONS, EMBEDDINGS,
)  # fmt: skip
INHOUSE = OPENAI._replace(
    name="inhouse",
    expresses={
        name: words for name, words in (chat.EXPRESSES | OURS | chat.OURS_OF_CHATS).items() if name not in chat.NOT_OURS
    },
    completions=OPENAI_COMPLETIONS._replace(name="inhouse completions", expresses=COMPLETIONS | OURS),
    embeddings=EMBEDDINGS._replace(body=_salted_body, has_salt=True),
)
