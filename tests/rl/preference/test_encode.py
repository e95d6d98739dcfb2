"""Pairs in files: both answers side by side, only the last answer learnt from, none of the held-out ones among them."""

import json
from pathlib import Path

import pytest

from inhouse.data.tokenizer import Tokenizer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_conversation
from inhouse.posttrain.rows.encoded import EncodedConversations
from inhouse.rl.preference.encode import encode_pairs, last_answer


def texts(tokenizer: Tokenizer, folder: Path) -> list[tuple[str, str]]:
    """Of every conversation all of it, and what is learnt from."""
    found, encoded = [], EncodedConversations(folder)
    for number in range(len(encoded)):
        ids, is_trained = encoded.read(number)
        found.append((tokenizer.decode(ids.tolist()), tokenizer.decode(ids[is_trained == 1].tolist())))
    return found


def test_both_answers_of_a_pair_lie_side_by_side(tmp_path: Path, small_tokenizer: Tokenizer, pairs: Path) -> None:
    encode_pairs([pairs], small_tokenizer, CHAT_TEMPLATE, tmp_path, 64)
    found = {split: texts(small_tokenizer, tmp_path / split) for split in ("train", "heldout")}
    for conversations in found.values():
        for (chosen, yes), (rejected, no) in zip(conversations[::2], conversations[1::2], strict=True):
            number = yes.removeprefix("yes ").removesuffix("<|im_end|>")
            assert no == f"no {number}<|im_end|>"
            assert f"Is {number} it?" in chosen
            assert chosen.split("assistant")[0] == rejected.split("assistant")[0]
    train, heldout = (len(found[split]) // 2 for split in ("train", "heldout"))
    assert train + heldout == 60
    assert heldout
    assert not {text for text, _ in found["train"]} & {text for text, _ in found["heldout"]}


def test_of_several_turns_the_last_answer_alone_is_learnt_from(small_tokenizer: Tokenizer) -> None:
    roles = [("user", "What is 1?"), ("assistant", "It is 1."), ("user", "And 2?"), ("assistant", "No doubt.")]
    encoded = encode_conversation(small_tokenizer, [{"role": role, "content": text} for role, text in roles])
    kept = [token for token, trained in zip(encoded.ids, last_answer(encoded).trained, strict=True) if trained]
    assert small_tokenizer.decode(kept) == "No doubt.<|im_end|>"


def test_pairs_that_teach_nothing_are_counted(tmp_path: Path, small_tokenizer: Tokenizer) -> None:
    file = tmp_path / "pairs.jsonl"
    lines = [("yes", "no"), ("yes", "yes"), ("yes " * 60, "no")]
    file.write_text("".join(json.dumps({"prompt": "?", "chosen": a, "rejected": b}) + "\n" for a, b in lines))
    encode_pairs([file], small_tokenizer, CHAT_TEMPLATE, tmp_path / "packed", 64)
    index = EncodedConversations(tmp_path / "packed" / "train").index
    assert {key: index[key] for key in ("pairs", "heldout", "too_long", "equal")} == {
        "pairs": 1, "heldout": 0, "too_long": 1, "equal": 1,
    }  # fmt: skip
    file.write_text(json.dumps({"prompt": "?", "chosen": "yes", "rejected": "yes"}))
    with pytest.raises(ValueError, match=r"none of 1 pairs can be learnt from: .* 1 have equal answers"):
        encode_pairs([file], small_tokenizer, CHAT_TEMPLATE, tmp_path / "none", 64)


def test_what_an_earlier_attempt_wrote_counts_for_the_same_files_alone(
    tmp_path: Path, small_tokenizer: Tokenizer, pairs: Path
) -> None:
    folder = tmp_path / "packed"
    encode_pairs([pairs], small_tokenizer, CHAT_TEMPLATE, folder, 64)
    before = texts(small_tokenizer, folder / "train")
    encode_pairs([pairs], small_tokenizer, CHAT_TEMPLATE, folder, 64)
    assert texts(small_tokenizer, folder / "train") == before
    pairs.write_text(json.dumps({"prompt": "?", "chosen": "other", "rejected": "no"}))
    encode_pairs([pairs], small_tokenizer, CHAT_TEMPLATE, folder, 64)
    (chosen, _) = texts(small_tokenizer, folder / "train")
    assert chosen[1] == "other<|im_end|>"
    assert not (folder / "heldout" / "index.json").exists()
