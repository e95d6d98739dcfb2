"""Questions on a library: only what its source states, and nothing from what is not Python."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard

from inhouse.data.documents import Document, to_line
from inhouse.environments.library import LIBRARY, library_problems, module_name

SOURCE = '''
"""A module."""

def loads(text, *, strict=True):
    """Parse `text`
    as one document.

    More about it.
    """

def _private():
    """Not offered."""

def undocumented():
    pass

class Decoder(dict):
    """Decode things."""

    def method(self):
        """A method is not offered."""
'''


def document(text: str, path: str = "json/decoder.py") -> Document:
    return Document(text, 0, path)


def test_what_the_source_states_and_nothing_else():
    problems = list(library_problems([document(SOURCE)], seed=0))
    assert [problem.worked for problem in problems] == [
        "Parse `text` as one document.",
        "loads is in the module json.decoder.",
        "loads(text, *, strict=True)",
        "Decode things.",
        "Decoder is in the module json.decoder.",
    ]
    assert all("loads" in problem.prompt for problem in problems[:3])
    assert all(problem.answer is None for problem in problems)
    assert LIBRARY.score is None


def test_the_same_seed_asks_the_same_questions():
    first, again, other = (list(library_problems([document(SOURCE)] * 9, seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_no_python_module_gives_nothing():
    broken = [document("def f(:"), document("\0"), document("(" * 10_000)]
    not_python = [document(SOURCE, "a.txt"), document(SOURCE, "not-a-module.py"), document(SOURCE, "__init__.py")]
    assert list(library_problems([*broken, *not_python], seed=0)) == []


def test_long_signatures_are_left_out():
    source = f'def f({", ".join(f"argument_{i}" for i in range(50))}):\n    """Do it."""'
    replies = [problem.worked for problem in library_problems([document(source)], seed=0)]
    assert replies == ["Do it.", "f is in the module json.decoder."]


def test_module_names():
    assert module_name("json/decoder.py") == "json.decoder"
    assert module_name("json/__init__.py") == "json"
    assert module_name("json/README.md") is None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data stage's folder: eight modules to train on, one held out."""
    (tmp_path / "documents").mkdir()
    modules = {"train": [f"module{number}.py" for number in range(8)], "heldout": ["kept.py"]}
    for split, paths in modules.items():
        lines = b"".join(to_line(document(SOURCE, path)) for path in paths)
        (tmp_path / "documents" / f"{split}-00000.jsonl.zst").write_bytes(zstandard.compress(lines))
    (tmp_path / "counts.json").write_text('{"total": {"train_documents": 8, "heldout_documents": 1}}')
    return tmp_path


def test_problems_are_on_the_documents_of_their_split(data):
    trained, heldout = (LIBRARY.draw(split, 100, 0, data) for split in ("train", "heldout"))
    assert len(trained) == 8 * 5
    assert trained[:5] == list(library_problems([document(SOURCE, "module0.py")], seed=0))
    assert heldout == list(library_problems([document(SOURCE, "kept.py")], seed=0))


def test_every_problem_is_drawn_equally_often(data):
    everything = LIBRARY.draw("train", 100, 0, data)
    drawn = Counter(problem.worked for seed in range(200) for problem in LIBRARY.draw("train", 10, seed, data))
    modules = [drawn[problem.worked] for problem in everything if "module" in problem.worked]
    assert sum(drawn.values()) == 200 * 10
    assert len(modules) == 16
    assert all(50 - 4 * 6.2 < count < 50 + 4 * 6.2 for count in modules)  # binomial: 200 draws with p = 10 / 40


def test_the_draw_stays_what_it_was(data):
    drawn = [list(problem[:3]) for problem in LIBRARY.draw("train", 10, 1, data)]
    assert sha256(json.dumps(drawn).encode()).hexdigest()[:16] == "21f11d5c2140e161"


def test_without_a_corpus_or_a_count_nothing_is_read(tmp_path):
    assert LIBRARY.draw("train", 10, 0, None) == []
    assert LIBRARY.draw("train", 0, 0, tmp_path / "missing") == []
