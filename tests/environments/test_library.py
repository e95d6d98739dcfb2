"""Conversations about a library: only what its source states, and nothing from what is not Python."""

from inhouse.data.documents import Document
from inhouse.environments.library import library_conversations, module_name, sample_library_conversations

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
    return Document(id="0", text=text, source="python", path=path, licence="PSF-2.0")


def test_what_the_source_states_and_nothing_else():
    conversations = list(library_conversations([document(SOURCE)], seed=0))
    assert [[message["role"] for message in each] for each in conversations] == [["user", "assistant"]] * 5
    answers = [each[1]["content"] for each in conversations]
    assert answers == [
        "Parse `text` as one document.",
        "loads is in the module json.decoder.",
        "loads(text, *, strict=True)",
        "Decode things.",
        "Decoder is in the module json.decoder.",
    ]
    assert all("loads" in each[0]["content"] for each in conversations[:3])


def test_the_same_seed_asks_the_same_questions():
    first, again, other = (list(library_conversations([document(SOURCE)] * 9, seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_no_python_module_gives_nothing():
    broken = [document("def f(:"), document("\0"), document("(" * 10_000)]
    not_python = [document(SOURCE, "a.txt"), document(SOURCE, "not-a-module.py"), document(SOURCE, "__init__.py")]
    assert list(library_conversations([*broken, *not_python], seed=0)) == []


def test_long_signatures_are_left_out():
    source = f'def f({", ".join(f"argument_{i}" for i in range(50))}):\n    """Do it."""'
    answers = [each[1]["content"] for each in library_conversations([document(source)], seed=0)]
    assert answers == ["Do it.", "f is in the module json.decoder."]


def test_module_names():
    assert module_name("json/decoder.py") == "json.decoder"
    assert module_name("json/__init__.py") == "json"
    assert module_name("json/README.md") is None


def test_a_sample_is_spread_over_all_documents():
    documents = [document(SOURCE, f"module{number}.py") for number in range(40)]
    sample = sample_library_conversations(documents, 20, seed=0)
    everything = list(library_conversations(documents, seed=0))
    assert len(sample) == 20 and all(each in everything for each in sample)
    assert any(each in everything[100:] for each in sample)
    assert sample_library_conversations(documents[:1], 20, seed=0) == everything[:5]
    assert sample_library_conversations(documents, 0, seed=0) == []
