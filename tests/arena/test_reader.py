"""Any file of battles is read, and what cannot be a vote is named with its line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from inhouse.arena.battles import Battles
from inhouse.arena.reader import read_battles


def read(folder: Path, text: str | bytes) -> Battles:
    path = folder / "votes"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_battles(path)


def votes(found: Battles) -> list[tuple[str, str, float]]:
    return [
        (found.models[a], found.models[b], p)
        for a, b, p in zip(found.left_N, found.right_N, found.points_N, strict=True)
    ]


EXPECTED = [("x", "y", 1.0), ("y", "z", 0.5), ("z", "x", 0.0)]


@pytest.mark.parametrize(
    "text",
    [
        "left,right,winner\nx,y,left\ny,z,tie\nz,x,right\n",
        "\ufeffwinner;id;Left;Right\r\nleft;1;x;y\r\n\r\ntie;2;y;z\r\nright;3;z;x\r\n",
        "sep=;\r\nleft;right;winner;\r\nx;y;left;\r\ny;z;tie;\r\nz;x;right;\r\n;;;\r\n",
        "model_a\tmodel_b\twinner\nx\ty\tmodel_a\ny\tz\ttie (bothbad)\nz\tx\tmodel_b",
        'model_x,model_y,vote\nx,y,x\ny,z,"both bad"\nz,x,x\n',  # the models' own names
        '{"left": "x", "right": "y", "winner": "Left"}\n\n{"left": "y", "right": "z", "winner": "draw"}\n'
        '{"left": "z", "right": "x", "winner": "x"}\n',
    ],
)
def test_files_of_every_form(tmp_path: Path, text: str) -> None:
    assert votes(read(tmp_path, text)) == EXPECTED
    assert votes(read(tmp_path, gzip.compress(text.encode()))) == EXPECTED


def test_the_columns_of_llmfao(tmp_path: Path) -> None:
    found = read(tmp_path, "id,prompt,model_x,model_y,worker,winner,left,right\n"
                           "0,8,97,98,58,tie,Airoboros L2 70B,Weaver 12k\n0,8,98,97,14,right,Weaver 12k,Airoboros L2 70B\n")  # fmt: skip  # noqa: E501
    assert found.models == ("Airoboros L2 70B", "Weaver 12k") and found.points_N.tolist() == [0.5, 0.0]
    assert found.voters == ("14", "58") and found.voter_N.tolist() == [1, 0]
    assert found.kind_N.tolist() == [0, 0]  # workers are people


def test_what_else_a_vote_may_say(tmp_path: Path) -> None:
    rows = [
        {"category": ["code", "hard"], "voter_kind": "people", "voter": "v", "probability": 0.25, "left_text": "# a"},
        {"category": "code", "voter_kind": "judges", "probability": 0.5, "left_text": "b", "right_text": "**b** c"},
        {},
    ]
    found = read(tmp_path, "\n".join(json.dumps({"left": "a", "right": "b", "winner": "tie"} | row) for row in rows))
    assert {k: v.tolist() for k, v in found.categories.items()} == {
        "code": [True, True, False], "hard": [True, False, False]}  # fmt: skip
    assert found.kind_N.tolist() == [0, 1, 2] and found.voters == ("v",) and found.voter_N.tolist() == [0, -1, -1]
    assert found.probability_N is not None and np.isnan(found.probability_N).tolist() == [False, False, True]
    assert found.style_NS is not None and np.isnan(found.style_NS).any(1).tolist() == [True, False, True]
    assert found.style_NS[1].tolist() == [-1 / 3, 0.0, -1.0, 0.0]


def test_counts_of_style_in_columns(tmp_path: Path) -> None:
    names = ",".join(f"{side}_{name}" for side in ("left", "right") for name in ("length", "headers", "bold", "lists"))
    found = read(tmp_path, f"left,right,winner,{names}\na,b,left,3,0,1,0,1,0,0,0\n")
    assert found.style_NS is not None and found.style_NS.tolist() == [[0.5, 0, 1, 0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty; votes are lines under the columns left, right, winner"),
        ("left,right,winner\n", "a header and no votes"),
        ("left,right\na,b\n", "votes want the columns left, right and winner .* there are left, right"),
        ("left,right,winner\na,b\n", "line 2: 2 fields where the header has 3"),
        ("left,right,winner\na,b,lft\n", r"line 2: winner is 'lft', not left, right, tie .*\(nearest: left\)"),
        ("left,right,winner\na,b,a\nb,c,a\n", "line 3: the winner a is neither b nor c"),
        ("left,right,winner\na, ,left\n", "line 2: the right model has no name"),
        ("left,right,winner\na,b,left\nb,b,left\n", "line 3: b battles itself"),
        ("left,right,winner,voter_kind\na,b,left,robots\n", "line 2: voter_kind is 'robots', not people or judges"),
        ("left,right,winner,probability\na,b,left,1.5\n", "line 2: a probability of 1.5"),
        ("left,right,winner,probability\na,b,left,often\n", "line 2: probability is 'often', not a number from 0 on"),
        ('{"left": "a"\n', "line 1: not valid JSON"),
        ('{"left": ' + "[" * 100_000, "line 1: JSON that is nested too deeply"),
        ('[{"left": "a"}]', "a JSON array"),
        (",,\n", "no header"),
        ('{"left": "a", "right": ["b"], "winner": "left"}', r"line 1: \['b'\] is no name of a model"),
        ('{"left": "a", "right": NaN, "winner": "left"}', "line 1: nan is no name of a model"),
        ('{"left": "a", "right": "b", "winner": "left", "probability": ' + "9" * 400 + "}", "line 1: probability is 9"),
        ("left,right,winner,winner\na,b,left,right\n", "line 1: two columns are called winner"),
        ("left,right,winner\nB,A,b\n", "line 2: winner is 'b'"),  # the right side, or B, which stands left?
        (gzip.compress(b"left,right,winner\n", mtime=0)[:15] + b"\xff" * 9, "a damaged gzip file"),
        ('{"left": "a", "right": "b", "winner": "left"}\n[1]\n', "line 2: not a JSON object, but list"),
        (b"left,right,winner\na,\xff,left\n", "not UTF-8 at byte 20"),
        (b"\x1f\x8b broken", "a damaged gzip file"),
        ('left,right,winner\n"a,b,left\n', "not valid CSV"),
    ],
)
def test_what_is_no_file_of_votes_is_refused_with_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(tmp_path, text)
