"""What routing reads of a request: what it is about, how long it is, which conversation it belongs to."""

from hashlib import sha256

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.spend.cost import Size, size_of_chat, size_of_texts
from inhouse.gateway.types import Caller

AnyRequest = ChatRequest | CompletionRequest | EmbeddingRequest
_COMPLETION = 16  # tokens of a completion whose request says nothing, in OpenAI's API


def text_of(request: AnyRequest) -> str:
    """What tells the task: the first thing that the user says, so that a whole conversation has one task."""
    if isinstance(request, ChatRequest):
        return next((message.content or "" for message in request.messages if message.role == "user"), "")
    return "\n".join(_texts(request))


def size_of(request: AnyRequest) -> Size:
    """Its tokens, at a model without limits."""
    if isinstance(request, ChatRequest):
        return size_of_chat(request, None, None)
    if isinstance(request, EmbeddingRequest):
        return size_of_texts(request.input, 0)
    return size_of_texts(request.prompt, _COMPLETION if request.max_tokens is None else request.max_tokens)


def asked_tokens(request: AnyRequest) -> int | None:
    """The most tokens that one answer may have, where the request says so; an embedding has none."""
    if isinstance(request, EmbeddingRequest):
        return 0
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        return request.max_completion_tokens
    return request.max_tokens


def number_of_answers(request: AnyRequest) -> int:
    return 1 if isinstance(request, EmbeddingRequest) else request.n


def conversation_of(request: AnyRequest, caller: Caller, header: str | None, user: str | None) -> str:
    """A name for the request's conversation: of the header `x-conversation-id`, else of what it began with.

    `user` is the field of that name, which tells one caller's users apart. Nobody can name another key's conversation.
    """
    if header:
        parts = [caller.key_id, header]
    elif isinstance(request, ChatRequest):
        said = [message.role for message in request.messages]
        begin = said.index("user") + 1 if "user" in said else 1
        parts = [caller.key_id, user or "", *(f"{each.role}:{each.text}" for each in request.messages[:begin])]
    else:
        parts = [caller.key_id, user or "", *_texts(request)]
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _texts(request: CompletionRequest | EmbeddingRequest) -> list[str]:
    prompts = request.input if isinstance(request, EmbeddingRequest) else request.prompt
    return [prompt if isinstance(prompt, str) else str(prompt) for prompt in prompts]
