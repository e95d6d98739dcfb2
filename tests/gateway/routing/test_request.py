"""What routing reads of a request."""

from tests.gateway.routing_parts import CALLER, chat

from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.routing.request import asked_tokens, conversation_of, size_of, text_of
from inhouse.gateway.types import Caller


def turns(*texts: str, system: str = "be brief") -> list[dict[str, str]]:
    roles = ["user", "assistant"]
    said = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *said]


def test_a_conversation_is_what_it_began_with() -> None:
    first = chat("", messages=turns("hello"))
    later = chat("", messages=turns("hello", "hi", "and now?"))
    name = conversation_of(first, CALLER, None, None)
    assert conversation_of(later, CALLER, None, None) == name
    others = [
        conversation_of(chat("", messages=turns("hello", system="be long")), CALLER, None, None),
        conversation_of(chat("", messages=turns("good day")), CALLER, None, None),
        conversation_of(first, CALLER, None, "user-7"),
        conversation_of(first, Caller("key-2", "docs"), None, None),
    ]
    assert len({name, *others}) == 5


def test_a_header_names_a_conversation_within_a_key() -> None:
    one, two = chat("one"), chat("two")
    assert conversation_of(one, CALLER, "c", None) == conversation_of(two, CALLER, "c", "user-7")
    assert conversation_of(one, CALLER, "c", None) != conversation_of(one, Caller("key-2", "docs"), "c", None)


def test_the_task_is_told_from_what_the_user_says_first() -> None:
    assert text_of(chat("", messages=turns("hello", "hi", "and now?"))) == "hello"
    assert text_of(CompletionRequest(model="m", prompt=["once", [1, 2]])) == "once\n[1, 2]"


def test_sizes_of_every_kind_of_request() -> None:
    assert asked_tokens(chat("x", max_tokens=7, max_completion_tokens=9)) == 9
    assert asked_tokens(chat("x")) is None
    embedding = EmbeddingRequest(model="m", input=["abcd" * 10])
    assert asked_tokens(embedding) == 0 and size_of(embedding).prompt == 10
    assert size_of(embedding).most_completion == 0
    assert size_of(CompletionRequest(model="m", prompt="abcd" * 10)).most_completion == 16
    assert size_of(chat("abcd" * 100)).prompt >= 100
