"""Odd files of every kind in one corpus: of each comes what is expected, and the terminal says the rest."""

import io
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import Prepared
from tests.data.odd.corpus import cases
from tests.data.odd.making import Odd

from inhouse.data.findings import Findings
from inhouse.data.readers.reader import Reader
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import input_files
from inhouse.data.stage import prepare_data

CASES = cases()


class Corpus:
    """All cases in one folder, read once: what became of them and what was said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "corpus"
        self.folder.mkdir()
        for case in CASES:
            case.write(self.folder / case.name)
        # by path, which drops no near-copies: many cases have the same words in another encoding
        settings = DataSettings(sources=(Source(path=str(self.folder), name="odd"),), processes=1, holdout_by="path")
        with redirect_stderr(io.StringIO()) as said:
            prepare_data(settings, folder / "data")
        prepared = Prepared(folder / "data")
        self.said, self.counts, self.texts = said.getvalue(), prepared.source, prepared.texts
        self.skipped = [(kind, name) for kind in self.counts["skipped"] for name in prepared.names(kind)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("odd"))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_comes_of_it(corpus: Corpus, case: Odd) -> None:
    prefix = f"{case.name}/"
    texts = {path.removeprefix(prefix): text for path, text in corpus.texts.items() if path.startswith(prefix)}
    assert texts == case.texts
    skipped: dict[str, list[str]] = {}
    for kind, name in corpus.skipped:
        if name.startswith(prefix):
            skipped.setdefault(kind, []).append(name.removeprefix(prefix).partition(" (")[0])
    assert skipped == case.skipped
    if case.reason:
        assert any(name.startswith(prefix) and case.reason in name for _, name in corpus.skipped)


def test_the_counts_are_the_sum_of_all(corpus: Corpus) -> None:
    encodings = sum((Counter(case.encodings) for case in CASES), Counter[str]())
    assert corpus.counts["encodings"] == encodings
    assert corpus.counts["excluded"] == sum(case.excluded for case in CASES)
    assert corpus.counts["empty"] == sum(case.empty for case in CASES)
    assert corpus.counts["documents"] == sum(len(case.texts) for case in CASES)
    kinds = Counter(dict.fromkeys(corpus.counts["skipped"], 0))
    for case in CASES:
        kinds.update({kind: len(names) for kind, names in case.skipped.items()})
    assert {kind: entry["count"] for kind, entry in corpus.counts["skipped"].items()} == kinds


def test_the_terminal_says_how_many_which_share_and_why(corpus: Corpus) -> None:
    [line] = [line for line in corpus.said.splitlines() if "skipped" in line]
    entries: dict[str, Any] = corpus.counts["skipped"]
    size = sum(entry["bytes"] for entry in entries.values())
    share = 100 * size / (size + corpus.counts["bytes"])
    assert line.startswith(f"data: skipped {len(corpus.skipped)}, {share:.2g} % of the bytes: ")
    for entry in entries.values():
        assert f"{entry['count']:,} " in line and entry["names"][0] in line
    assert line.endswith("; counts.json names them all")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_stopping_names_the_first_and_what_to_do(tmp_path: Path, case: Odd) -> None:
    case.write(tmp_path / "x")
    source = Source(path=str(tmp_path / "x"), name="odd")
    settings = DataSettings(sources=(source,), on_bad_input="stop")
    reader = Reader(source, 0, settings)
    sentence = ""
    try:
        for file in input_files(source, Findings(place=source.path, stops=True)):
            for _ in reader.read(file):
                pass
    except ValueError as error:
        sentence = str(error)
    names = [name for names in case.skipped.values() for name in names]
    assert bool(sentence) == bool(names)
    if names:
        place, name, *_ = sentence.split(": ")
        assert place == source.path and name in names
        assert sentence.endswith('or skip what is bad with data.on_bad_input = "skip"')
