"""What `inhouse make` ends with."""

from pathlib import Path

import pytest
from tests.fabricated_run import fabricate

from inhouse.common.files import write_json
from inhouse.common.lineage import OUTDATED
from inhouse.report.html import write_report
from inhouse.report.summary import summary


def test_a_finished_run_tells_times_goodput_scores_and_what_is_next(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine")
    assert summary(run).splitlines() == [
        "data              2.0 s",
        "tokenizer         5.0 s",
        "pretrain     2 min 00 s",
        "sft          1 min 00 s",
        "evaluate         10.0 s",
        "export            3.0 s",
        "together     3 min 20 s",
        "goodput    pretrain: 75.0 % of 2 min 00 s: stepping 75.0 %, idle 25.0 %",
        "",
        "base/bits_per_byte            1.2345 ± 0.0214   of   1,234  whole documents",
        "model/exact_match/rhymes      75.0 % ± 3.1 %    of     200  greedy",
        "model/exact_match/addition    50.0 %            of     100  greedy",
        "model/ends_by_itself          99.4 % ± 0.3 %    of     700  within the limit",
        "",
        f"report     {run}/report.html",
        f"export     {run}/export/huggingface",
        "",
        f"talk to it: inhouse chat {run}",
        f"serve it:   inhouse serve {run}",
    ]


def test_what_is_stale_is_marked_and_its_scores_are_not_shown(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine")
    write_json(run / OUTDATED, {"sft": "sft.epochs: 1 → 2"})
    lines = summary(run).splitlines()
    assert lines[2:6] == [
        "pretrain     2 min 00 s",
        "sft          1 min 00 s  stale: sft.epochs: 1 → 2",
        "evaluate         10.0 s  stale: sft is stale",
        "export            3.0 s  stale: evaluate is stale",
    ]
    assert "bits_per_byte" not in "\n".join(lines)
    assert f"export     {run}/export/huggingface  (stale)" in lines
    write_report(run)
    page = (run / "report.html").read_text()
    assert "sft.epochs: 1 → 2" in page
    assert "1.2345" not in page
    assert "Which word rhymes?" not in page


def test_a_run_that_has_only_begun_offers_nothing_that_is_not_there(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "mine", until="tokenizer")
    assert summary(run).splitlines() == [
        "data              2.0 s",
        "tokenizer         5.0 s",
        "together          7.0 s",
        "",
        f"report     {run}/report.html",
    ]


@pytest.mark.parametrize(("text_tokens", "said"), [
    (2_000_000, ["text       2 M tokens, 1.5 passes over it"]),
    (300_000, ["text       300 k tokens, 10.0 passes over it",
               "           10.0 passes over the text: beyond 8 a model learns it by heart; "
               "give more text, or lower [pretrain] tokens"]),
])  # fmt: skip
def test_passes_over_the_text_are_told_and_too_many_warned_about(
    tmp_path: Path, text_tokens: int, said: list[str]
) -> None:
    run = fabricate(tmp_path / "mine", until="pretrain")
    index = run / "tokenizer" / "shards" / "train" / "index.json"
    index.parent.mkdir(parents=True)
    write_json(index, {"shards": [{"tokens": text_tokens - 7}, {"tokens": 7}]})
    lines = summary(run).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("text "))
    assert lines[at : at + len(said)] == said
    assert ("10.0 passes" in "".join(lines)) == (len(said) == 2)
    write_report(run)
    page = (run / "report.html").read_text()
    assert "passes over the text, " + said[0][11:].partition(",")[0] in page
