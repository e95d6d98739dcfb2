"""Draws the rooms of inhouse from its own imports: docs/architecture.svg.

.venv/bin/python docs/architecture.py

A box is a room, its row the floor that `pyproject.toml` gives it; a line leads to a room that it imports. What follows
from other lines (a imports b, b imports c, and a imports c too) is left out.
"""

import textwrap
import tomllib
from html import escape
from itertools import product
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, ROW, BOX, HEIGHT = 1240, 118, 292, 74
SHIFT = 150  # rooms alone on their floor stand left and right in turn, so that fewer lines pass behind them
COLOURS = ("#4c8dd6", "#e0803a", "#3fa46a", "#b267c7", "#d4565c", "#2fa3a3", "#8a93a0")


def floors() -> list[list[str]]:
    """The rooms of every floor, from the roof down, as the import contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in layers if layer != "__main__"]


def arrows(rooms: list[str]) -> set[tuple[str, str]]:
    """Which room imports which, without what follows from the rest."""
    graph = grimp.build_graph("inhouse")
    direct = {(a, b) for a, b in product(rooms, rooms) if a != b and _imports(graph, a, b)}
    reach = set(direct)
    for middle, a, b in product(rooms, rooms, rooms):  # Warshall
        if (a, middle) in reach and (middle, b) in reach:
            reach.add((a, b))
    return {(a, b) for a, b in direct if not any((a, c) in reach and (c, b) in reach for c in rooms)}


def _imports(graph: grimp.ImportGraph, a: str, b: str) -> bool:
    inside = {f"inhouse.{a}", *graph.find_descendants(f"inhouse.{a}")}
    theirs = {f"inhouse.{b}", *graph.find_descendants(f"inhouse.{b}")}
    return any(graph.find_modules_directly_imported_by(module) & theirs for module in inside)


def inside(room: str) -> list[str]:
    """The names of a room's files, on at most three lines."""
    names = sorted(path.stem for path in (ROOT / "src" / "inhouse" / room).glob("*.py") if path.stem != "__init__")
    return textwrap.wrap(" · ".join(names), 60, max_lines=3, placeholder=" …")


def draw() -> str:
    """The picture as an SVG text, the same bytes for the same imports."""
    rows = floors()
    centre = {
        room: (
            WIDTH * (2 * i + 1) / (2 * len(row)) + (len(row) == 1) * (SHIFT if level % 2 else -SHIFT),
            ROW * level + HEIGHT / 2 + 20,
        )
        for level, row in enumerate(rows)
        for i, room in enumerate(row)
    }
    height = ROW * len(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<marker id="head" orient="auto" markerWidth="8" markerHeight="8" refX="6" refY="3">'
        '<path d="M 0 0 L 6 3 L 0 6 Z" fill="#5a6470"/></marker>',
    ]
    rooms = list(centre)
    for a, b in sorted(arrows(rooms)):
        (x0, y0), (x1, y1) = centre[a], centre[b]
        y0, y1 = y0 + HEIGHT / 2, y1 - HEIGHT / 2
        middle = (y0 + y1) / 2
        colour = COLOURS[rooms.index(a) % len(COLOURS)]
        path = f"M {x0:.0f} {y0:.0f} C {x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}"
        lines.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.8" marker-end="url(#head)"/>'
        )
    for room, (x, y) in centre.items():
        left, top = x - BOX / 2, y - HEIGHT / 2
        lines += [
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{BOX}" height="{HEIGHT}" rx="6" fill="#f4f6f8" '
            'stroke="#8a93a0"/>',
            f'<text x="{x:.0f}" y="{top + 21:.0f}" text-anchor="middle" font-size="17">{room}</text>',
            *(
                f'<text x="{x:.0f}" y="{top + 37 + 14 * i:.0f}" text-anchor="middle" font-size="10.5" '
                f'fill="#5a6470">{escape(line)}</text>'
                for i, line in enumerate(inside(room))
            ),
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw())
