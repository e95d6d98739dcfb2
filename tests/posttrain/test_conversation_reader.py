"""Files of conversations: counted by layout, refused with their place, and known without torch."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse.posttrain.conversation_reader import check_conversations, read_conversations, read_placed

GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": 3}
ALPACA = {"instruction": "a", "output": "b"}


def write(path: Path, *values: object) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def test_files_and_folders_are_read_in_order(tmp_path):
    write(tmp_path / "b.jsonl", GOOD, GOOD)
    write(tmp_path / "a.json", {"messages": GOOD["messages"] * 2})
    (tmp_path / "notes.txt").write_text("not conversations")
    assert [len(each) for each in read_conversations(tmp_path)] == [4, 2, 2]
    assert list(read_conversations(tmp_path / "b.jsonl")) == [GOOD["messages"]] * 2
    assert [(each.file.name, each.place) for each in read_placed(tmp_path)] == [
        ("a.json", "line 1"), ("b.jsonl", "line 1"), ("b.jsonl", "line 2")
    ]  # fmt: skip


def test_what_files_hold_is_said(tmp_path):
    write(tmp_path / "one.jsonl", SHAREGPT)
    (tmp_path / "two.json.gz").write_bytes(gzip.compress(json.dumps([ALPACA] * 1200 + [GOOD]).encode()))
    write(tmp_path / "three.jsonl", *[GOOD] * 2)
    said: list[str] = []
    contents = check_conversations([tmp_path / "three.jsonl", tmp_path], say=said.append)
    assert said == [
        "three.jsonl: 2 conversations, OpenAI messages",
        "one.jsonl: 1 conversation, ShareGPT (passed over: id)",
        "three.jsonl: 2 conversations, OpenAI messages",
        "two.json.gz: 1,201 conversations, Alpaca 1,200, OpenAI messages 1",
    ]
    assert contents[-1].layouts == {"Alpaca": 1200, "OpenAI messages": 1}


def test_keys_of_strangers_are_shown_and_not_obeyed(tmp_path):
    keys = {"\x1b]0;x\x07\x1b[31mred": 1, "k\nsft: done in 0.0 s": 2} | {f"z{number:02}": 3 for number in range(40)}
    write(tmp_path / "one.jsonl", GOOD | keys)
    said: list[str] = []
    check_conversations([tmp_path / "one.jsonl"], say=said.append)
    (line,) = said
    assert line.isprintable()
    assert line.endswith("and 32 more)")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", "line 2: not valid JSON"),
        (b"\xff", "line 2: not UTF-8"),
        (b"[]", "line 2: it holds a list"),
        (b'{"text": "x"}', "line 2: no known layout: it has the key text"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "line 2: message 1: the content is not a string"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "line 2: no message of the assistant"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, sentence):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=sentence) as error:
        check_conversations([path], say=lambda line: None)
    assert str(error.value).startswith(f"{path}, line 2: ")


@pytest.mark.parametrize("content", ["", "\n\n", "[]", "\ufeff"])
def test_what_holds_nothing_is_an_error(tmp_path, content):
    with pytest.raises(ValueError, match=r"no \.jsonl, "):
        list(read_conversations(tmp_path))
    with pytest.raises(FileNotFoundError):
        list(read_conversations(tmp_path / "missing.jsonl"))
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"a\.jsonl: holds no conversations"):
        list(read_conversations(tmp_path))


@pytest.mark.parametrize("module", ["conversation_reader", "show"])
def test_reading_needs_no_torch(module):
    code = f"import sys, inhouse.posttrain.{module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
