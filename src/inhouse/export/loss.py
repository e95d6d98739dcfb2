"""What GGUF files lose: bits per byte of held-out text, with each file's own weights against the model's."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inhouse.data.documents import read_documents
from inhouse.evaluate.bits_per_byte import document_bits
from inhouse.evaluate.score import ratio
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.gguf_reader import fill_from_gguf, weights_by_type
from inhouse.posttrain.opened_model import open_folder

# a loss is a difference on the same text: it needs far less of it than a score
MAX_DOCUMENTS = 32
MAX_BYTES = 2_048  # of each


def measure(files: Sequence[Path], folder: Path, data: Path, settings: EvaluateSettings) -> dict[str, Any]:
    """By each file's name: its `bytes`, its `weights` by type as they are read back, and the `loss`, a score.

    The loss is in bits per byte of the held-out text of the data stage's folder `data`, above what the model in
    `folder` needs for the same text in the same windows, those of the evaluate stage; its standard error is over
    documents. Raises `ValueError` where there is no held-out text.
    """
    texts, share = sample(document.text for document in read_documents(data, "heldout"))
    sizes = [len(text.encode()) for text in texts]
    plain = _bits(folder, None, texts, settings)
    assert plain is not None
    found = {}
    for path in files:
        bits = _bits(folder, path, texts, settings)
        differences = [0.0] * len(texts) if bits is None else [a - b for a, b in zip(bits, plain, strict=True)]
        score = ratio(differences, sizes, f"{share}, computed in {settings.dtype}; standard error over documents")
        found[path.name] = {"bytes": path.stat().st_size, "weights": weights_by_type(path), "loss": score._asdict()}
    return found


def _bits(folder: Path, file: Path | None, texts: Sequence[str], settings: EvaluateSettings) -> list[float] | None:
    """Bits for each text by the model, with the weights of `file` where one is given; None: they are the model's."""
    model, tokenizer = open_folder(folder, settings.dtype)[:2]
    if file is not None and not fill_from_gguf(model, file):
        return None
    context = settings.context_of(model.config.max_position)
    title = f"bits per byte of {file.name if file else 'the weights'}"
    return document_bits(model, tokenizer, texts, context, settings.stride, title)


def sample(texts: Iterable[str]) -> tuple[list[str], str]:
    """The beginnings of some documents, evenly spaced among all, and in words, of which.

    Raises `ValueError` where there is no text.
    """
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError("there is no held-out text to score: hold out more documents, or give more text")
    chosen = texts[:: -(-len(texts) // MAX_DOCUMENTS)]
    parts = [text.encode()[:MAX_BYTES].decode(errors="ignore") for text in chosen]
    return parts, f"the first {MAX_BYTES:,} bytes of {len(chosen):,} of {len(texts):,} held-out documents"
