"""report.html shows what the run's files hold, and nothing that they do not."""

import html
import json
import re
from pathlib import Path

import pytest
from tests.fabricated_run import CODE, HOST, SCORES, change_record, fabricate
from tests.page import fetched

from inhouse.common.files import write_json
from inhouse.model.huggingface import config_to_hf
from inhouse.model.sizes import ModelSettings
from inhouse.report import charts
from inhouse.report.html import write_report
from inhouse.report.summary import summary


@pytest.fixture(autouse=True)
def _quick_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of a page's time; tests/report/test_charts.py looks at the pictures."""
    monkeypatch.setattr(charts, "line_chart", lambda *_, **__: "<svg></svg>")
    monkeypatch.setattr(charts, "share_bar", lambda *_: "<svg></svg>")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fabricate(tmp_path / "mine")


def page(run: Path) -> str:
    write_report(run)
    return (run / "report.html").read_text()


def tiles(run: Path) -> dict[str, str]:
    """What each tile shows, by its label."""
    found = re.findall(r'tile"><b>(.*?)</b><span>(.*?)</span>', page(run))
    return {html.unescape(label): value for value, label in found}


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    table = text.split(f"<h2>{heading}</h2>")[1].split("</table>")[0]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[html.unescape(re.sub("<.*?>", "", cell)).strip() for cell in row] for row in cells]


def test_tiles_show_the_last_step_and_the_scores_that_there_are(run: Path) -> None:
    assert tiles(run) == {
        "tokens of pretraining": "3 M",
        "held-out bits per byte, base": "1.2345",
        "rhymes right": "75.0 %",
        "additions right": "50.0 %",
        "answers that end by themselves": "99.4 %",
    }


def test_a_model_without_generated_kinds_has_no_tiles_of_them(run: Path) -> None:
    write_json(run / "evaluate" / "scores.json", {"base/bits_per_byte": SCORES["base/bits_per_byte"]})
    assert set(tiles(run)) == {"tokens of pretraining", "held-out bits per byte, base"}
    (run / "evaluate" / "scores.json").unlink()
    assert set(tiles(run)) == {"tokens of pretraining"}


def test_what_fine_tuning_costs_and_own_answers_stand_beside_the_base(run: Path) -> None:
    base = SCORES["base/bits_per_byte"]
    measured = {"base/bits_per_byte": base, "model/bits_per_byte": base | {"value": 1.2555},
                "model/own/bits_per_byte": base | {"value": 0.5}}  # fmt: skip
    write_json(run / "evaluate" / "scores.json", measured)
    assert tiles(run) == {
        "tokens of pretraining": "3 M",
        "held-out bits per byte, base": "1.2345",
        "the same, fine-tuned (+0.021)": "1.2555",
        "bits per byte of own answers that were held out": "0.5000",
    }
    assert "fine-tuning changed the held-out bits per byte by +0.021" in summary(run).splitlines()


def test_an_own_question_stands_with_the_answer_that_was_expected(run: Path) -> None:
    own = {"kind": "own", "prompt": "Who?", "expected": "We <did>.", "reply": "They.", "is_right": None}
    (run / "evaluate" / "samples.jsonl").write_text(json.dumps(own) + "\n")
    assert 'own: Who?<span class="mark">expected: We &lt;did&gt;.</span>' in page(run)


def test_the_size_is_of_all_parameters_and_the_active_ones_are_told(run: Path) -> None:
    config, _ = ModelSettings(architecture="glm4_moe", size="tiny").resolve(512)
    total, active = config.count_parameters()
    write_json(run / "pretrain" / "config.json", config_to_hf(config))
    ((label, value),) = [(label, value) for label, value in tiles(run).items() if label.startswith("parameters")]
    assert (value, label) == (f"{total / 1e3:.3g} k", f"parameters, {active / 1e3:.3g} k active")


def test_scores_stand_with_error_count_and_method(run: Path) -> None:
    assert rows(page(run), "Scores") == [
        ["score", "value", "± standard error", "count", "how"],
        ["base/bits_per_byte", "1.2345", "0.0214", "1,234", "whole documents"],
        ["model/exact_match/rhymes", "75.0 %", "3.1 %", "200", "greedy"],
        ["model/exact_match/addition", "50.0 %", "", "100", "greedy"],
        ["model/ends_by_itself", "99.4 %", "0.3 %", "700", "within the limit"],
    ]


def test_samples_say_what_is_right_and_two_of_a_kind_are_shown(run: Path) -> None:
    found = re.findall(r'<summary>([^<]*)<span class="mark">(.*?)</span></summary>\n<pre>(.*?)</pre><pre>(.*?)</pre>',
                       page(run), re.DOTALL)  # fmt: skip
    assert [tuple(map(html.unescape, sample)) for sample in found] == [
        ("rhymes: Which word rhymes? (0)", "right", "Which word rhymes? (0)\nOne line more.", "reply <0>"),
        ("rhymes: Which word rhymes? (1)", "wrong; right is <hat>", "Which word rhymes? (1)\nOne line more.",
         "reply <1>"),
        ("library: What does it do?", "not scored", "What does it do?", "It reads."),
    ]  # fmt: skip


def test_what_a_model_wrote_is_text_and_no_markup(run: Path) -> None:
    evil = {"kind": "x", "prompt": "<script>prompt</script>", "reply": "<script>reply</script>", "is_right": None}
    (run / "evaluate" / "samples.jsonl").write_text(json.dumps(evil) + "\n")
    text = page(run)
    assert "<script>" not in text
    assert "&lt;script&gt;reply" in text


def test_sources_stand_with_licence_and_what_was_skipped(run: Path) -> None:
    assert rows(page(run), "Data") == [
        ["name", "path", "licence", "files", "documents", "cp1252", "</s>", "binary"],
        ["mine", "/texts", "CC0-1.0", "12,345", "9,876", "3", "1,234", "2"],
    ]


def test_stages_stand_with_times_memory_and_inputs(run: Path) -> None:
    text = page(run)
    stages = {row[0]: row[1:] for row in rows(text, "Lineage")[1:]}
    assert list(stages) == ["data", "tokenizer", "pretrain", "sft", "evaluate", "export"]
    assert stages["pretrain"][:3] == ["2026-11-25 03:04:05", "2 min 00 s", "1.50 GiB"]
    assert stages["sft"][3].split()[::2] == ["data", "tokenizer", "pretrain"]
    assert "in 3 min 20 s on A processor, 2 cores; finished 2026-11-25 04:05 UTC" in text
    assert "lineage of mine" in text


def test_a_run_that_has_only_begun_has_a_page_too(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "begun", until="data")
    text = page(run)
    assert not tiles(run)
    assert "<h2>Data</h2>" in text
    assert not any(part in text for part in ("<h2>Scores</h2>", "<h2>Samples</h2>", "<svg"))


def test_charts_stand_under_the_stage_that_was_trained(run: Path) -> None:
    text = page(run)
    pretraining, tuning = text.split("<h2>Pretraining</h2>")[1].split("<h2>Supervised fine-tuning</h2>")
    assert "throughput" in pretraining and "throughput" not in tuning
    assert "where the time went: goodput 75.0 %" in pretraining
    assert tuning.split("<h2>Scores</h2>")[0].count("<figure") == 1


def test_the_machine_is_its_gpus_where_it_has_any(run: Path) -> None:
    attempt = {"started": "2026-11-25T03:04:05+00:00", "code": CODE, "host": HOST | {"gpus": ["H100", "H100"]}}
    change_record(run, "export", attempts=[attempt])
    assert "on H100, H100; finished" in page(run)


def test_the_page_is_whole_without_the_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # with the pictures as they are drawn
    text = page(run)
    assert text.count("<svg") == 9
    assert fetched(text) == []


@pytest.mark.parametrize(
    "markup",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        "<style>@import 'http://www.w3.org/x.css';</style>",
        '<p style="background: url(x.png)">',
        '<svg><image xlink:href="http://matplotlib.org/x.png"/></svg>',
    ],
)
def test_what_a_browser_would_fetch_is_found(run: Path, markup: str) -> None:
    assert len(fetched(page(run).replace("</body>", f"{markup}</body>"))) == 1
