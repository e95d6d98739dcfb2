"""Bits per byte that int8 weights lose: writes results/int8.md.

    .venv/bin/python bench/int8.py RUN/sft [--texts RUN/data] [--documents 200] [--write]

The held-out documents of a run (of `--texts`, a data stage's folder; default: beside the model), read by the folder's
own weights and by the same in 8 bits (`--weights int8`), both computing in the folder's type. The loss is paired: the
standard error is that of the difference, over documents.
"""

import argparse
import math
import statistics
from itertools import islice
from pathlib import Path

from inhouse.data.documents import read_documents
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.model.transformer import Transformer
from inhouse.posttrain.opened_model import open_folder

RESULTS = Path(__file__).with_name("results") / "int8.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    documents = read_documents(args.texts or args.model.parent / "data", "heldout")
    texts = [document.text for document in islice(documents, args.documents) if document.text]
    opened = open_folder(args.model, "auto")

    def bits() -> list[float]:
        model: Transformer = opened.model
        context = model.config.max_position
        return [bits_per_byte(model, opened.tokenizer, [text], context).value * len(text.encode()) for text in texts]

    before = bits()
    opened.model.pack(to_int8=True)
    after = bits()
    num_bytes = sum(len(text.encode()) for text in texts)
    losses = [b - a for a, b in zip(before, after, strict=True)]
    error = statistics.stdev(losses) * math.sqrt(len(losses)) / num_bytes
    lines = [
        "# Bits per byte with int8 weights",
        "",
        f"`bench/int8.py` on the {len(texts)} held-out documents ({num_bytes:,} bytes) of a run whose model has "
        f"{opened.model.num_weights:,} weights, computed in {str(opened.model.dtype).removeprefix('torch.')}.",
        "",
        "| weights | bits per byte |",
        "| --- | ---: |",
        f"| as they are | {sum(before) / num_bytes:.4f} |",
        f"| int8 | {sum(after) / num_bytes:.4f} |",
        f"| lost | {sum(losses) / num_bytes:+.5f} ± {error:.5f} |",
    ]
    print("\n".join(lines))
    if args.write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
