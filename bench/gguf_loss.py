"""What do GGUF files of a real model lose? Every type that can be exported, as the model card says it.

    .venv/bin/python bench/gguf_loss.py runs/preview [--write]

Exports the run's fine-tuned model anew into a folder that is deleted afterwards: size, bits per byte lost on the
held-out text, and what each file holds. Needs llama-cpp-python, which compiles from source:
pip install 'inhouse[quantize]'.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from inhouse.common.files import read_json
from inhouse.common.lineage import GGUF
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.model_card import gguf_chapter
from inhouse.export.quantize import INSTALL, is_installed
from inhouse.export.settings import ExportSettings, PlainType, QuantizedType
from inhouse.export.stage import export

RESULT = Path("bench/results/gguf_loss.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with its data, sft and evaluate stages")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT}")
    arguments = parser.parse_args()
    if not is_installed():
        sys.exit(f"llama-cpp-python is not installed; it compiles from source: {INSTALL}")
    settings = ExportSettings(gguf=(*get_args(PlainType), *get_args(QuantizedType)))
    with tempfile.TemporaryDirectory() as scratch:
        export(settings, EvaluateSettings(), arguments.run / "sft", arguments.run, Path(scratch))
        text = table(read_json(Path(scratch) / GGUF))
    print(text)
    if arguments.write:
        command = " ".join([".venv/bin/python", *sys.argv])
        RESULT.write_text(f"# What GGUF files lose\n\n    {command}\n\n{text}\n", encoding="utf-8")


def table(files: dict[str, Any]) -> str:
    """That of the model card, and what it was measured on."""
    how = next(iter(files.values()))["loss"]["how"]
    rows = [line for line in gguf_chapter(files) if line.startswith("|")]
    return "\n".join([f"Measured on {how}.\n", *rows])


if __name__ == "__main__":
    main()
