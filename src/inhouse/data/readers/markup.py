"""Texts that stand between other things: the cells of notebooks, the lines of subtitles."""

import html
import json
import re

from inhouse.data.findings import BadInput

_TIMES = re.compile(r"\s*(\d+:)?\d+:\d+[.,]\d+\s*-->")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_VTT_BLOCK = re.compile(r"(WEBVTT|NOTE|STYLE|REGION)\b")


def notebook_text(text: str) -> str:
    """What somebody wrote in a Jupyter notebook: the source of its cells, code and prose; no outputs.

    Raises `BadInput` where it is none.
    """
    try:
        notebook = json.loads(text)
        sheets = notebook.get("worksheets", [notebook])  # as it was until version 3
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        sources = [cell.get("source", cell.get("input", "")) for cell in cells]
        return "\n\n".join(text for source in sources if (text := "".join(source).strip("\n")))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise BadInput("malformed", f"no notebook ({type(error).__name__}: {error})") from None


def subtitle_text(text: str) -> str:
    """What is said in .srt or .vtt subtitles, a line a line; a line that the next block repeats is said once."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        rows = block.strip("\n").split("\n")
        times = next((i for i, row in enumerate(rows) if _TIMES.match(row)), None)
        if times is None and (_VTT_BLOCK.match(rows[0]) or not block.strip()):
            continue
        for row in rows[0 if times is None else times + 1 :]:
            said = html.unescape(_TAG.sub("", row)).strip()
            if said and lines[-1:] != [said]:
                lines.append(said)
    return "\n".join(lines)
