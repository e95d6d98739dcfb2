"""Files of pairs: the layouts that others write, and sentences for what is none."""

import json
from pathlib import Path

import pytest

from inhouse.rl.preference.pairs import read_pairs, to_pair

ASKED, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Hello!"), ("assistant", "What?"))
)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD], "score_chosen": 9},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": "Hi", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    ],
)
def test_layouts_of_pairs_mean_the_same(record: dict) -> None:
    pair = to_pair(record)
    assert pair.chosen == [ASKED, GOOD]
    assert pair.rejected == [ASKED, BAD]


def test_a_system_message_and_thinking_are_as_in_conversations() -> None:
    pair = to_pair(
        {"system": "Be kind.", "prompt": "Hi", "chosen": "<think>\nKind.\n</think>\n\nHello!", "rejected": "W"}
    )
    assert pair.rejected[0] == {"role": "system", "content": "Be kind."}
    assert pair.chosen[-1]["reasoning_content"].strip() == "Kind."


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "Hi", "answer": "Hello!"}, "there are the keys prompt, answer"),
        (["Hi"], "there are list"),
        ({"chosen": "Hello!", "rejected": "What?"}, "there is no prompt"),
        ({"prompt": "Hi", "chosen": [ASKED], "rejected": [ASKED, BAD]}, "does not end with an answer"),
        ({"prompt": "Hi", "chosen": 1, "rejected": "What?"}, "neither a text nor a list of messages"),
        ({"prompt": "Ho", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, "does not begin with prompt"),
        ({"chosen": [ASKED, GOOD], "rejected": [BAD, ASKED, BAD]}, "answer different prompts"),
    ],
)
def test_what_is_no_pair_is_said_with_its_place(tmp_path: Path, record: object, said: str) -> None:
    file = tmp_path / "pairs.jsonl"
    good = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}
    file.write_text(f"{json.dumps(good)}\n{json.dumps(record)}\n")
    with pytest.raises(ValueError, match=rf"pairs.jsonl, line 2: .*{said}"):
        list(read_pairs(file))


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no pairs"):
        list(read_pairs(tmp_path / "empty.jsonl"))
