"""Lossless, exact in size, blind to special tokens in plain text, and the same in transformers."""

import json
import string
import sysconfig
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import inhouse.data.tokenizer
from inhouse.data.tokenizer import SPECIAL_TOKENS, SPLIT_REGEX, Tokenizer

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
TEXTS = [(LIBRARY / name).read_text(encoding="utf-8") for name in ("argparse.py", "ast.py", "heapq.py")]
TRAINED = Tokenizer.train(TEXTS, 700)

# letters, digits, spaces and line ends of many kinds, and special tokens' names, mixed
pieces = st.sampled_from(
    ["it's", "IT'S", " ", "  ", "\n", "\r\n", "\t", "12345", "é", "e\u0301", "日本", "🙂", "'ſ", "/", "…"]
)
messy = st.lists(st.one_of(pieces, st.sampled_from(SPECIAL_TOKENS), st.text(max_size=5))).map("".join)


@given(messy)
def test_any_text_comes_back(text):
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert TRAINED.decode_bytes(ids) == text.encode()
    assert all(id >= len(SPECIAL_TOKENS) for id in ids)


@given(messy)
def test_special_tokens_come_back_too(text):
    ids = TRAINED.encode_with_special(text)
    assert TRAINED.decode(ids) == text
    for token in SPECIAL_TOKENS:
        assert ids.count(TRAINED.special[token]) == text.count(token)


@given(st.lists(st.integers(0, 699)))
def test_any_ids_have_bytes(ids):
    assert TRAINED.decode(ids) == TRAINED.decode_bytes(ids).decode("utf-8", "replace")


@given(st.lists(messy, max_size=5))
def test_a_batch_is_its_texts(texts):
    assert TRAINED.encode_batch(texts) == [TRAINED.encode(text) for text in texts]


def test_special_tokens_and_bytes_have_their_ids():
    assert [TRAINED.special[token] for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert (TRAINED.end_of_document, TRAINED.end_of_turn) == (0, 2)
    assert TRAINED.vocab_size == 700
    assert TRAINED.decode([0, *TRAINED.encode("x"), 2], skip_special=True) == "x"
    assert TRAINED.decode([1, 3, *TRAINED.encode("x"), 4, 2], skip_special=True) == "<think>x</think>"
    assert TRAINED.decode_bytes([699, 700, 10**9]) == TRAINED.decode_bytes([699])


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        TRAINED.encode("x\ud800")


def test_vocabulary_that_the_text_does_not_support():
    with pytest.raises(ValueError, match=r"vocab_size = 1000, but this text supports only 26\d tokens"):
        Tokenizer.train(["abc abc", "abc"], 1000)


def test_training_is_deterministic(tmp_path):
    Tokenizer.train(TEXTS, 700).save(tmp_path)
    again = (tmp_path / "tokenizer.json").read_bytes()
    TRAINED.save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == again


def test_a_line_without_end_does_not_hold_training_up():
    line = "".join(string.ascii_lowercase[i * i * 7919 // 8 % 26] for i in range(300_000))
    assert Tokenizer.train([line], 400).vocab_size == 400


@pytest.mark.parametrize("name", SPLIT_REGEX)
def test_text_in_pieces_has_the_ids_of_the_whole(name, monkeypatch):
    tokenizer = Tokenizer.train(TEXTS, 700, name)
    text = TEXTS[1] + "/\n/ \n\n\n/x\n" * 30
    whole = tokenizer.encode(text)
    monkeypatch.setattr(inhouse.data.tokenizer, "_PIECE_CHARACTERS", 200)
    assert tokenizer.encode(text) == whole
    assert tokenizer.decode(tokenizer.encode(" " * 999 + "\n" * 999)) == " " * 999 + "\n" * 999


@pytest.mark.parametrize(("name", "longest"), [("qwen2", 1), ("llama-bpe", 3), ("gpt-4o", 3)])
def test_digits_per_token(name, longest):
    tokenizer = Tokenizer.train(["12345678 " * 50, *TEXTS], 700, name)
    assert max(len(tokenizer.decode([id])) for id in tokenizer.encode("12345678")) == longest
    assert tokenizer.pre_tokenizer_name == name


@pytest.mark.parametrize("model_type", ["qwen3", "glm4_moe", "exaone_moe"])
def test_transformers_loads_the_same_tokenizer(tmp_path, model_type):
    TRAINED.save(tmp_path, max_length=512)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = TEXTS[2] + "e\u0301 IT'S 'ſ  \n\n x<|im_end|>\r\n1234 é "
    assert theirs(text, split_special_tokens=True).input_ids == TRAINED.encode(text)
    text += "<think>é </think>\n"
    ids = theirs(text).input_ids
    assert ids == TRAINED.encode_with_special(text)
    assert theirs.decode(ids) == text
    assert theirs.decode(ids, skip_special_tokens=True) == TRAINED.decode(ids, skip_special=True)
    assert theirs.decode(ids, skip_special_tokens=True).endswith("<think>é </think>\n")
    assert (theirs.eos_token, theirs.pad_token, theirs.model_max_length) == ("<|im_end|>", "<|endoftext|>", 512)


def test_saved_and_loaded(tmp_path):
    TRAINED.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode(TEXTS[0]) == TRAINED.encode(TEXTS[0])
    assert loaded.pre_tokenizer_name == "qwen2"
    assert Tokenizer.load(tmp_path / "tokenizer.json").special == TRAINED.special


def test_a_tokenizer_of_before_in_which_think_is_special_still_opens(tmp_path):
    TRAINED.save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in description["added_tokens"]:
        token["special"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    loaded, text = Tokenizer.load(tmp_path), TEXTS[0] + "<think>\nx</think>"
    assert loaded.special == TRAINED.special
    assert loaded.encode(text) == TRAINED.encode(text)
    assert loaded.encode_with_special(text) == TRAINED.encode_with_special(text)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ids = loaded.encode_with_special(text)
    assert theirs.decode(ids, skip_special_tokens=True) == loaded.decode(ids, skip_special=True)


def test_other_peoples_tokenizer(tmp_path):
    """Special tokens elsewhere, some not marked special, another end of turn."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_special_tokens(["<|user|>"])
    backend.add_tokens([tokenizers.AddedToken("<think>", special=False)])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|user|>"}}))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.special == {"<|user|>": 300, "<think>": 301} and loaded.vocab_size == 302
    assert loaded.end_of_turn == 300
    assert not {300, 301} & set(loaded.encode("<|user|><think>x"))
    assert loaded.encode_with_special("<|user|><think>")[:2] == [300, 301]
    assert loaded.decode([300, 301], skip_special=True) == "<think>"
    assert loaded.end_of_document == 300  # which has no token of its own there
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="no special token"):
        _ = Tokenizer.load(tmp_path).end_of_document


@pytest.mark.parametrize(("content", "sentence"), [(None, "no tokenizer.json here"), ("{}", "cannot|can be read")])
def test_a_folder_without_a_tokenizer(tmp_path, content, sentence):
    if content:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_that_is_not_byte_level(tmp_path):
    tokenizers.Tokenizer(tokenizers.models.BPE({"▁a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="not byte-level"):
        Tokenizer.load(tmp_path)
