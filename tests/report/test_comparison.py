"""A comparison as people read it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from tests.evaluate.compare.other_programs import answer
from tests.page import fetched

from inhouse.evaluate.compare.comparison import Comparison, compare_results
from inhouse.evaluate.compare.sides import Sides
from inhouse.evaluate.results import Results
from inhouse.report.comparison import COLUMNS, as_json, columns, lines, rows, table, write_page


@pytest.fixture
def compared() -> Comparison:
    said = '<script>alert("x")</script>'
    a = [
        answer(n, {"accuracy": float(n < 30)}, prompt=f"{said} {n}\nlast line {n}", output="\x1b[31mred")
        for n in range(40)
    ]
    b = [answer(n, {"accuracy": float(n < 5)}, output=said) for n in range(40)]
    return compare_results(
        Sides(Results({"model": "one", "kind": "folder"}, a), Results({"model": "<b>", "kind": "lm-eval"}, b))
    )


def test_a_row_has_a_cell_for_every_column(compared: Comparison) -> None:
    (row,) = rows(compared)
    cells = dict(zip(COLUMNS, row, strict=True))
    assert cells["n"] == cells["clusters"] == "40"
    assert cells["A"].startswith("0.750 ± 0.06")
    assert cells["A - B"] == "+0.625"
    assert cells["A up"] == "25"
    assert cells["p exact"] == "< 0.001"
    assert cells["verdict"] == "A is better"
    console = Console(width=200, file=io.StringIO())
    console.print(table(compared._replace(tasks=[compared.tasks[0]._replace(task="letters [strict]")])))
    assert "letters [strict]" in console.file.getvalue()  # type: ignore[attr-defined]
    assert lines(compared) == ["A is one, B is <b>", "A is better on letters."]


def test_signal_over_noise_stands_there_where_it_is_known(compared: Comparison) -> None:
    known = compared._replace(tasks=[compared.tasks[0]._replace(signal=4.25)])
    (row,) = rows(known)
    assert dict(zip(columns(known), row, strict=True))["signal / noise"] == "4.2"


def test_json_has_every_number_and_null_for_what_cannot_be_said(compared: Comparison) -> None:
    (task,) = json.loads(as_json(compared._replace(tasks=[compared.tasks[0]._replace(low=None)])))["tasks"]
    assert (task["a"], task["b"], task["low"]) == (0.75, 0.125, None)


def test_the_page_is_whole_and_strangers_text_is_only_text(compared: Comparison, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", compared)
    page = (tmp_path / "page.html").read_text()
    assert fetched(page) == []
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>&lt;b&gt;" not in page
    assert "letters: A scores higher on 25" in page
    assert page.count("<details>") == 25
    assert "item 5: last line 5" in page


def test_of_many_flips_some_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    a, b = ([answer(n, {"accuracy": score}) for n in range(300)] for score in (1.0, 0.0))
    write_page(tmp_path / "page.html", compare_results(Sides(Results({}, a), Results({}, b))))
    page = (tmp_path / "page.html").read_text()
    assert "A scores higher on 300, of which 200 are shown" in page
    assert page.count("<details>") == 200
