"""What fine-tuning will see, on the terminal: whose tokens are trained on, and nothing that the terminal obeys."""

import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.documents import Document, to_line
from inhouse.data.tokenizer import Tokenizer
from inhouse.posttrain.settings import SftSettings
from inhouse.posttrain.show import MARKS, TRAINED, Example, bytes_as_tokens, examples, rendered, visible

FEW = {"addition": 8, "strings": 1, "library": 5}


def conversation(answer: str) -> dict:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(conversation(f"a{number}")) + "\n" for number in range(5)))
    return path


def test_own_conversations_stand_first_then_some_of_each_kind(tmp_path, own):
    other = tmp_path / "other.json"
    other.write_text('[{"instruction": "q", "output": "a"}]')
    settings = SftSettings(conversations=(own, other), generated=FEW)
    shown = list(examples(settings, tmp_path / "data", seed=0, number=2))
    assert [example.title for example in shown] == [
        f"{own}, line 1: OpenAI messages",
        f"{own}, line 2: OpenAI messages",
        f"{other}, record 1: Alpaca",
        "addition: made by code",
        "addition: made by code",
        "strings: made by code",
        f"library: none without the documents of the data stage ({tmp_path / 'data'} is not there)",
    ]
    assert shown[-1].messages is None
    (alone,) = examples(settings, tmp_path / "data", seed=0, number=2, file=other)
    assert alone == shown[2]


def test_questions_on_documents_are_shown_where_there_are_documents(tmp_path):
    folder = tmp_path / "data" / "documents"
    folder.mkdir(parents=True)
    text = 'def loads(text):\n    """Parse text."""\n'
    line = to_line(Document(text, 0, "module.py"))
    (folder / "train-00000.jsonl.zst").write_bytes(zstandard.compress(line))
    (tmp_path / "data" / "counts.json").write_text('{"total": {"train_documents": 1}}')
    (first, *_) = examples(SftSettings(generated={"library": 5}), tmp_path / "data", seed=0, number=3)
    assert first.title == "library: made by code" and "module" in first.messages[0]["content"]


def test_what_is_trained_on_is_marked_with_and_without_colour():
    tokenizer = bytes_as_tokens()
    example = Example("own", conversation("a\n日\x1b[31m")["messages"])
    text = rendered(example, tokenizer, is_coloured=False).plain
    assert text == (
        "── own; 32 tokens, 11 of them trained on\n<|im_start|>user↵\nq<|im_end|>↵\n<|im_start|>assistant↵\n"
        f"{MARKS[0]}a↵\n日␛[31m<|im_end|>{MARKS[1]}↵\n"
    )
    coloured = rendered(example, tokenizer, is_coloured=True)
    trained = "".join(coloured.plain[span.start : span.end] for span in coloured.spans if span.style == TRAINED)
    assert trained == "a↵\n日␛[31m<|im_end|>"
    assert MARKS[0] not in coloured.plain


def test_a_conversation_that_cannot_be_rendered_is_named():
    with pytest.raises(ValueError, match="own: message 1: the role"):
        rendered(Example("own", [{"role": "x", "content": ""}]), bytes_as_tokens(), False)


@given(st.text())
def test_the_stand_in_has_a_token_for_each_byte(text):
    assert len(bytes_as_tokens().encode(text)) == len(text.encode())


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    assert all(character.isprintable() or character == "\n" for character in visible(text))
    assert visible("a b\n\t\x7f\u200b\u202e\u00a0é") == "a b↵\n␉<U+007F><U+200B><U+202E><U+00A0>é"


def test_a_trained_tokenizer_gives_its_own_counts(tokenizer: Tokenizer):
    example = Example("own", conversation("def parse_args(self):")["messages"])
    fewer = rendered(example, tokenizer, False).plain.splitlines()[0]
    assert fewer != rendered(example, bytes_as_tokens(), False).plain.splitlines()[0]
