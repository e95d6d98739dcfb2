"""What was skipped: counted, named, and told in one line."""

from dataclasses import asdict

import pytest

from inhouse.data.findings import MAX_NAMES, BadInput, Findings, Skipped, terminal_line


def test_findings_of_several_processes_add_up() -> None:
    one, other = Findings(files=1, bytes=2, empty=3, excluded=4), Findings(files=10, bytes=20, empty=30, excluded=40)
    one.skip(BadInput("binary", "why"), "a", 5)
    other.skip(BadInput("binary", "why"), "b", 7)
    other.skip(BadInput("malformed", "no text"), "c")
    other.decoded("cp1252")
    one.add(other)
    assert asdict(one) == {
        "files": 11, "bytes": 22, "empty": 33, "excluded": 44, "encodings": {"cp1252": 1}, "place": "", "stops": False,
        "skipped": {
            "binary": {"count": 2, "bytes": 12, "names": ["a (why)", "b (why)"]},
            "malformed": {"count": 1, "bytes": 0, "names": ["c (no text)"]},
        },
    }  # fmt: skip
    assert one.summary() == ("11 files read, 33 empty, 44 excluded, 2 binary: a (why), …, 1 without text: c (no text)")


def test_only_the_first_names_are_kept() -> None:
    findings = Findings()
    for number in range(MAX_NAMES + 5):
        findings.skip(BadInput("binary", "why"), str(number))
    skipped = findings.skipped["binary"]
    assert (skipped.count, len(skipped.names)) == (MAX_NAMES + 5, MAX_NAMES)


def test_the_terminal_line_says_how_many_why_and_which_share() -> None:
    assert terminal_line([Findings(bytes=100), Findings(excluded=3)]) is None
    one = Findings(bytes=900, skipped={"damaged": Skipped(1, 60, ["a.gz (cut short)"])})
    other = Findings(skipped={"damaged": Skipped(1, 40, ["b"]), "encrypted": Skipped(3, 0, ["c (it is encrypted)"])})
    assert terminal_line([one, other]) == (
        "data: skipped 5, 10 % of the bytes: 3 encrypted: c (it is encrypted), …; "
        "2 damaged or cut short: a.gz (cut short), …; counts.json names them all"
    )


def test_stopping_is_a_sentence_with_file_reason_and_remedy() -> None:
    findings = Findings(place="our-manuals", stops=True)
    with pytest.raises(ValueError, match=r"our-manuals: a.gz: cut short; get the file again, or skip .*on_bad_input"):
        findings.skip(BadInput("damaged", "cut short"), "a.gz")
