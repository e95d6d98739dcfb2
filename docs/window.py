"""Fills what the README shows of a real run: `python docs/window.py runs/preview [--tests LOG]`.

The lines that `inhouse make` ended with, a conversation with the model, the last line of `make test` (from its log),
and `docs/report.svg`: the charts of pretraining as the report has them.
"""

import argparse
import re
from pathlib import Path

import inhouse
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.posttrain.conversations import trained_on
from inhouse.report.charts import stage_charts
from inhouse.report.summary import summary

ROOT = Path(__file__).parents[1]
_WIDTH, _HEIGHT, _CAPTION, _SHOWN = 380, 200, 24, 4  # of a chart, in pixels; charts
_INK = "#5a6470"  # seen on light and dark pages alike


def conversation(run: Path) -> str:
    """One question of each kind that the model was taught, and what it answers: none was trained on."""
    model = inhouse.load(run)
    lines = []
    for name in trained_on(run / "sft"):
        problem = next(iter(ENVIRONMENTS[name].draw("heldout", 1, 0, run / "data")))
        lines += [f"> {problem.prompt}", model.chat(problem.prompt), ""]
    return "\n".join(lines).strip()


def picture(run: Path) -> str:
    """The first charts of pretraining, two in a row, as one SVG."""
    charts = stage_charts(run / "pretrain")[:_SHOWN]
    height = -(-len(charts) // 2) * (_HEIGHT + _CAPTION)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH} {height}" color="{_INK}">']
    for place, (caption, svg) in enumerate(charts):
        x, y = place % 2 * _WIDTH, place // 2 * (_HEIGHT + _CAPTION)
        parts.append(f'<text x="{x + 8}" y="{y + 16}" font-family="sans-serif" font-size="13" fill="{_INK}">')
        parts.append(f"{caption}</text>")
        opening, rest = svg.split(">", 1)
        box = re.search(r'viewBox="[^"]*"', opening)
        assert box, "a chart has a view box"
        place_of = f'x="{x}" y="{y + _CAPTION}" width="{_WIDTH}" height="{_HEIGHT}"'
        # ids are unique in a chart only
        inside = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>c{place}-", rest)
        parts.append(f'<svg {place_of} {box.group()} xmlns:xlink="http://www.w3.org/1999/xlink">{inside.rstrip()}')
    return "\n".join([*parts, "</svg>"]) + "\n"


def fill(page: str, name: str, text: str) -> str:
    """`page` with `text` as the block between `<!-- name -->` and `<!-- end -->`."""
    block = f"<!-- {name} -->\n```\n{text}\n```\n<!-- end -->"
    filled, count = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda match: block, page, flags=re.DOTALL)
    assert count == 1, f"the page has no place for {name}"
    return filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tests", type=Path, help="what `make test` printed")
    given = parser.parse_args()
    (ROOT / "docs" / "report.svg").write_text(picture(given.run), encoding="utf-8")
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    page = fill(page, "make preview", summary(given.run))
    page = fill(page, "conversation", conversation(given.run))
    if given.tests is not None:
        passed = [line for line in given.tests.read_text(encoding="utf-8").splitlines() if " passed" in line]
        page = fill(page, "make test", passed[-1].strip("= "))
    (ROOT / "README.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
