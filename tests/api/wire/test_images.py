"""Images reach a chat from every face, and only for who parses with them."""

import json

import pytest

from inhouse.api.errors import ApiError
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage
from inhouse.api.wire.images import Image
from inhouse.api.wire.messages import MessagesRequest
from inhouse.api.wire.responses import ResponsesRequest

INLINE, FAR = "data:image/png;base64,iVBORw0KGgo=", "https://a.example/x.png?y=1"


def parsed(face: type, content: object, images: bool = True, role: str = "user") -> ChatMessage:
    message = {"role": role, "content": content}
    body: dict = {"model": "m"} | ({"input": [message]} if face is ResponsesRequest else {"messages": [message]})
    request = face.parse(json.dumps(body | ({"max_tokens": 5} if face is MessagesRequest else {})).encode(), images)
    return (request if face is ChatRequest else request.to_chat()).messages[0]


def content_of(face: type, url: str = FAR) -> list[dict]:
    if face is ChatRequest:
        return [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": INLINE}},
                {"type": "text", "text": "b"}, {"type": "image_url", "image_url": {"url": url}}]  # fmt: skip
    if face is ResponsesRequest:
        return [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": INLINE},
                {"type": "input_text", "text": "b"}, {"type": "input_image", "image_url": url}]  # fmt: skip
    inline = {"type": "base64", "media_type": "image/png", "data": INLINE.partition(",")[2]}
    return [{"type": "text", "text": "a"}, {"type": "image", "source": inline},
            {"type": "text", "text": "b"}, {"type": "image", "source": {"type": "url", "url": url}}]  # fmt: skip


FACES = [ChatRequest, MessagesRequest, ResponsesRequest]


@pytest.mark.parametrize("face", FACES)
def test_images_stand_in_their_places_between_texts(face: type) -> None:
    message = parsed(face, content_of(face))
    assert message.parts == ("a", Image(INLINE), "b", Image(FAR))
    assert message.content == "a\nb"
    assert message.images[0].inline == ("image/png", "iVBORw0KGgo=")


@pytest.mark.parametrize("face", FACES)
def test_who_does_not_ask_for_images_refuses_them(face: type) -> None:
    with pytest.raises(ApiError, match=r"only parts of type text|it must be an object of type (text|input_text)"):
        parsed(face, content_of(face), images=False)
    assert "mage" not in json.dumps(face.model_json_schema()["$defs"])  # nor does the document know them


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "url",
    ["http://a.example/x.png", "file:///etc/passwd", "https://u:p@a.example/", "https://", "https://[a/",
     "https://a b/", "data:image/svg+xml;base64,AAAA", "data:text/html,x", "https://a.example/" + "x" * 9000],
)  # fmt: skip
def test_other_addresses_are_refused(face: type, url: str) -> None:
    with pytest.raises(ApiError, match="an image is an https: URL or a data: URL with base64"):
        parsed(face, content_of(face, url))


@pytest.mark.parametrize(("face", "role"), [(ChatRequest, "assistant"), (ChatRequest, "system"),
                                            (MessagesRequest, "assistant"), (ResponsesRequest, "system")])  # fmt: skip
def test_only_users_and_tools_send_images(face: type, role: str) -> None:
    with pytest.raises(ApiError):
        parsed(face, content_of(face), role=role)


def test_texts_alone_have_no_parts() -> None:
    assert parsed(ChatRequest, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]).parts == ()


def test_a_result_of_a_tool_has_images_too() -> None:
    use = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": content_of(MessagesRequest), "is_error": True}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    body = json.dumps({"model": "m", "max_tokens": 5, "messages": turns}).encode()
    message = MessagesRequest.parse(body, images=True).to_chat().messages[-1]
    assert (message.role, message.parts) == ("tool", ("Error:", "a", Image(INLINE), "b", Image(FAR)))
