"""Byte-level BPE: any text to token ids and back, without loss.

The split regexes are the ones that llama.cpp runs under these names (llama-vocab.cpp). They differ from the texts in
the original models' tokenizer.json for a few letters outside ASCII (U+017F after an apostrophe, non-ASCII capitals):
trained with llama.cpp's own form, every engine splits alike. There is no Unicode normaliser: it would lose bytes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from inhouse.common.files import read_json, write_atomic, write_json
from inhouse.data.settings import PreTokenizerName

END_OF_DOCUMENT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINKING = ("<think>", "</think>")  # tokens that are printed: readers of an answer tell by them where thinking ends
SPECIAL_TOKENS = (END_OF_DOCUMENT, START_OF_TURN, END_OF_TURN, *THINKING)  # ids 0, 1, …

_CONTRACTION = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_BEFORE, _SPACES = r"[^\r\n\p{L}\p{N}]?", r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"((?=[\p{L}])([^a-z]))", r"((?=[\p{L}])([^A-Z]))"
SPLIT_REGEX: dict[PreTokenizerName, str] = {
    "qwen2": rf"{_CONTRACTION}|{_BEFORE}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    "llama-bpe": rf"{_CONTRACTION}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
    "gpt-4o": rf"{_BEFORE}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_BEFORE}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
}

# The regex engine gives up (and panics) after ten million steps inside one match, so longer texts go in pieces.
_PIECE_CHARACTERS = 1 << 18
# Behind such a newline every split regex starts a new word: the last of its blank lines, and no "/" next.
_WORDS_END = re.compile(r"\n(?!/)(?=[^\S\r\n]*\S)")
# Learning a word takes time quadratic in its length: a line without an end would hold the trainer up for minutes.
_TRAINING_CHARACTERS = 10_000


def _bytes_of_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (GPT-2's table: printable Latin-1 is itself)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Tokenizer:
    """A trained tokenizer of ours, or the byte-level tokenizer.json of any other model."""

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, object] | None = None) -> None:
        self._config = config or {}
        self._with_special = backend
        self._plain = _without_special(backend)
        added = backend.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in added.items()}
        self.skipped = frozenset(i for i, token in added.items() if token.special)  # no part of a generated text
        self._bytes = _bytes_of_tokens(backend)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a folder with tokenizer.json, or that file. Raises `ValueError` where it is no byte-level tokenizer."""
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"{path}: there is no tokenizer.json here; name a model folder or a tokenizer stage")
        config = file.with_name("tokenizer_config.json")
        try:
            backend = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises a bare Exception
            raise ValueError(f"{file}: not a tokenizer that can be read ({error}); make it again") from None
        return cls(backend, read_json(config) if config.is_file() else None)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pre_tokenizer: PreTokenizerName = "qwen2") -> Self:
        """Learn exactly `vocab_size` tokens. Raises `ValueError` naming the size reached where the text has fewer."""
        # llama.cpp takes a whole word from the vocabulary, merges or not, under the name llama-bpe only
        backend = tokenizers.Tokenizer(models.BPE(ignore_merges=pre_tokenizer == "llama-bpe"))
        split = pre_tokenizers.Split(Regex(SPLIT_REGEX[pre_tokenizer]), behavior="isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        pieces = (piece for text in texts for piece in _cut(text, _TRAINING_CHARACTERS))
        backend.train_from_iterator(pieces, trainer)
        if backend.get_vocab_size() != vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size = {vocab_size}, but this text supports only {backend.get_vocab_size()} tokens: "
                "lower it or add text"
            )
        return cls(_with_printed(backend, THINKING), {"pre_tokenizer_name": pre_tokenizer})

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Write tokenizer.json and the tokenizer_config.json that transformers reads; `max_length` in tokens."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TURN,
            "pad_token": END_OF_DOCUMENT,
            "clean_up_tokenization_spaces": False,
            **self._config,
        }
        if max_length is not None:
            config["model_max_length"] = max_length
        write_atomic(folder / "tokenizer.json", self._with_special.to_str(pretty=True))
        write_json(folder / "tokenizer_config.json", config)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    @property
    def pre_tokenizer_name(self) -> str | None:
        """llama.cpp's name of the split regex, or None for a tokenizer of somebody else's that does not say."""
        name = self._config.get("pre_tokenizer_name")
        return name if isinstance(name, str) else None

    @property
    def end_of_document(self) -> int:
        """The id of `<|endoftext|>`, or of the eos token where a tokenizer of somebody else's has no such token."""
        return self._special_id(END_OF_DOCUMENT if END_OF_DOCUMENT in self.special else self._eos)

    @property
    def end_of_turn(self) -> int:
        """The id of `<|im_end|>`, or of the eos token where a tokenizer of somebody else's has no such turns."""
        return self._special_id(END_OF_TURN if END_OF_TURN in self.special else self._eos)

    @property
    def _eos(self) -> str:
        return self.named_special().get("eos_token", "eos_token")

    def named_special(self) -> dict[str, str]:
        """The texts of `bos_token`, `eos_token`, `pad_token` and `unk_token`, of those that the tokenizer names."""
        named = {f"{kind}_token": self._config.get(f"{kind}_token") for kind in ("bos", "eos", "pad", "unk")}
        texts = {kind: token.get("content") if isinstance(token, dict) else token for kind, token in named.items()}
        return {kind: str(text) for kind, text in texts.items() if text is not None}

    def _special_id(self, token: str) -> int:
        if token not in self.special:
            raise ValueError(f"this tokenizer has no special token {token}; use a model of inhouse's own chat format")
        return self.special[token]

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token's id."""
        return self._with_special.get_vocab(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; "<|im_end|>" in it is eight letters and signs, never the special token."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of every text, on all cores."""
        return _encode_batch(self._plain, texts)

    def encode_with_special(self, text: str) -> list[int]:
        """Ids of a text in which special tokens' names stand for them: only for what our own templates wrote."""
        return _encode_batch(self._with_special, [text])[0]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of the tokens, special ones as their names; ids of no token (padded heads) give none."""
        return b"".join(self._bytes[i] if i < len(self._bytes) else b"" for i in ids)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of the tokens; bytes that are not UTF-8 become U+FFFD."""
        kept = (i for i in ids if i not in self.skipped) if skip_special else ids
        return self.decode_bytes(kept).decode("utf-8", "replace")


def _with_printed(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> tokenizers.Tokenizer:
    """The same tokenizer, in which these added tokens are not special: the library trains none but special ones.

    What transformers calls special (and llama.cpp a control token) it does not print; Qwen3's `<think>` is not special.
    """
    description = json.loads(backend.to_str())
    for token in description["added_tokens"]:
        token["special"] = token["content"] not in texts
    return tokenizers.Tokenizer.from_str(json.dumps(description))


def _without_special(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, to which the text of a special token is text like any other."""
    description = json.loads(backend.to_str())
    for token in description["added_tokens"]:
        token["special"] = True  # in other people's tokenizers "<think>" is not, and would be found in plain text
    plain = tokenizers.Tokenizer.from_str(json.dumps(description))
    plain.encode_special_tokens = True
    return plain


def _encode_batch(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    results: list[list[int]] = [[] for _ in texts]
    for group in _groups((i, piece) for i, text in enumerate(texts) for piece in _cut(text, _PIECE_CHARACTERS)):
        try:
            encodings = backend.encode_batch_fast([piece for _, piece in group], add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            raise ValueError("text with half of a surrogate pair is no Unicode and cannot be encoded") from None
        for (i, _), encoding in zip(group, encodings, strict=True):
            results[i] += encoding.ids
    return results


def _groups(pieces: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Pieces in groups of half a million characters: the library keeps up to 250 bytes a token beside its id."""
    group: list[tuple[int, str]] = []
    size = 0
    for i, piece in pieces:
        group.append((i, piece))
        size += len(piece)
        if size >= 2 * _PIECE_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _cut(text: str, limit: int) -> Iterator[str]:
    """A text in pieces of at most `limit` characters, whose ids are those of the whole wherever a line ends in time."""
    start = 0
    while len(text) - start > limit:
        end = text.rfind("\n", start, start + limit) + 1
        while end > start and not _WORDS_END.match(text, end - 1):
            end = text.rfind("\n", start, end - 1) + 1
        if end <= start:
            end = start + limit
        yield text[start:end]
        start = end
    yield text[start:]


def _bytes_of_tokens(backend: tokenizers.Tokenizer) -> list[bytes]:
    """The bytes of every id; added tokens keep their names as UTF-8, holes in the numbering are empty."""
    byte_of = _bytes_of_letters()
    added = {i: token.content for i, token in backend.get_added_tokens_decoder().items()}
    vocab = backend.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocab.values()) + 1)
    try:
        for token, i in vocab.items():
            table[i] = added[i].encode() if i in added else bytes(byte_of[letter] for letter in token)
    except KeyError:
        raise ValueError(
            "this tokenizer is not byte-level; inhouse reads the tokenizers of Qwen3, GLM-4 and the like"
        ) from None
    return table
