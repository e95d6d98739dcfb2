"""Thinking is apart from the answer, whole and in pieces."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.serve.choices import Delta
from inhouse.serve.faces.chat import Chat
from inhouse.serve.reasoning import Reasoning


def split(text: str, cuts: list[int], is_open: bool) -> tuple[str, str]:
    reasoning, start, found = Reasoning(is_open), 0, ("", "")
    places = [*sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    for number, end in enumerate(places):
        thinking, content = reasoning.push(text[start:end], number == len(places) - 1)
        found, start = (found[0] + thinking, found[1] + content), end
    return found


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        ("<think>\na b\n</think>\n\nyes", False, ("a b\n", "yes")),
        ("a b</think>yes", True, ("a b", "yes")),
        ("\n<think></think>\nyes", False, ("", "yes")),
        ("  yes <think>no</think>", False, ("", "  yes <think>no</think>")),
        ("<think>a < b </thin k", False, ("a < b </thin k", "")),
        ("<thin", False, ("", "<thin")),
        ("<think>a</think>b</think>c", False, ("a", "b</think>c")),
        ("", False, ("", "")),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_it_is_split_alike_however_it_comes(text, is_open, expected, step):
    assert split(text, list(range(0, len(text), step)), is_open) == expected


@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<", "thi", " ", "\n", "a", "</"]), max_size=9).map("".join),
    cuts=st.lists(st.integers(0, 60), max_size=9),
    is_open=st.booleans(),
)
def test_pieces_make_no_difference(text, cuts, is_open):
    assert split(text, cuts, is_open) == split(text, [], is_open)


def test_a_chat_answers_with_both(server):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "q"}]}
    delta = Delta("<think>hm</think>yes", [], "stop")
    whole = Chat(server.served, json.dumps(body).encode()).choice(0, delta)
    assert whole["message"] == {"role": "assistant", "content": "yes", "refusal": None, "reasoning_content": "hm"}
    piece = Chat(server.served, json.dumps(body | {"stream": True}).encode()).choice(0, delta)
    assert piece["delta"] == {"content": "yes", "reasoning_content": "hm"}
