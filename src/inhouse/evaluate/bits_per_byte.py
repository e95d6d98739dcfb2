"""Bits per byte on held-out documents: of a model, and of `xz -9e` on the same bytes.

Bits per byte do not depend on the tokenizer, so models with different vocabularies, and compressors, compare.
Shapes: B windows, T tokens, D model width, N scored tokens.
"""

import lzma
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.common.progress import Progress
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.score import Score, ratio
from inhouse.model.transformer import Transformer

TOKENS_PER_BATCH = 8_192
MAX_LOGITS = 1 << 25  # elements at a time: 128 MiB in fp32


class Window(NamedTuple):
    """A stretch of one document: the tokens read, and from which of them on the next token is scored here."""

    document: int
    tokens: list[int]  # inputs and the last target
    first_scored: int


def bits_per_byte(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[str], context: int, stride: int | None = None
) -> Score:
    """Bits that the model needs for whole documents, by their UTF-8 bytes; the standard error is over documents.

    `context` and `stride` are those of `document_bits`. Empty texts count nothing.
    Raises ValueError where no text is left, and as `document_bits` does.
    """
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError("there is no held-out text to score: hold out more documents, or give more text")
    stride = stride or max(1, context // 2)
    how = f"whole documents, windows of {context} tokens, stride {stride}; standard error over documents"
    bits = document_bits(model, tokenizer, texts, context, stride)
    return ratio(bits, [len(text.encode()) for text in texts], how)


def document_bits(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    context: int,
    stride: int | None = None,
    title: str = "bits per byte",
) -> list[float]:
    """Bits that the model needs for each of the documents, none of which is empty; progress is shown under `title`.

    A document starts behind the end-of-document token and is read in windows of `context` tokens, each `stride`
    (default: half of it) further than the last, where only tokens not scored before are scored: every token but a
    document's first has at least `context - stride` tokens before it, or all there are.
    Raises ValueError where the stride is longer than a window.
    """
    stride = stride or max(1, context // 2)
    if not 1 <= stride <= context:
        raise ValueError(f"stride = {stride} is not between 1 and the context of {context} tokens")
    windows = [
        window
        for number, ids in enumerate(tokenizer.encode_batch(texts))
        for window in _windows(number, [tokenizer.end_of_document, *ids], context, stride)
    ]
    nats = [0.0] * len(texts)
    with Progress(title, len(windows), "windows") as progress:
        for batch in _batches(windows, context):
            for window, total in zip(batch, _window_nats(model, batch), strict=True):
                nats[window.document] += total
            progress.update(len(batch))
    return [total / math.log(2) for total in nats]


def _windows(document: int, ids: list[int], context: int, stride: int) -> Iterator[Window]:
    num_scored = 0
    for start in range(0, len(ids), stride):
        tokens = ids[start : start + context + 1]
        yield Window(document, tokens, num_scored - start)
        num_scored = start + len(tokens) - 1
        if num_scored == len(ids) - 1:
            return


def _batches(windows: Iterable[Window], context: int) -> Iterator[list[Window]]:
    """Windows of like lengths together, so that little is filled up."""
    ordered = sorted(windows, key=lambda window: len(window.tokens), reverse=True)
    size = max(1, TOKENS_PER_BATCH // context)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


@torch.inference_mode()
def _window_nats(model: Transformer, batch: Sequence[Window]) -> list[float]:
    """The summed negative log-likelihood of each window's scored tokens."""
    device = model.embed_tokens.weight.device
    length = max(len(window.tokens) for window in batch) - 1
    tokens_BT = torch.zeros(len(batch), length, dtype=torch.int64)
    is_scored_BT = torch.zeros(len(batch), length, dtype=torch.bool)
    targets_BT = torch.zeros_like(tokens_BT)
    for row, window in enumerate(batch):
        size = len(window.tokens) - 1
        tokens_BT[row, :size] = torch.tensor(window.tokens[:-1])
        targets_BT[row, :size] = torch.tensor(window.tokens[1:])
        is_scored_BT[row, window.first_scored : size] = True
    hidden_BTD = model(tokens_BT.to(device)).hidden_BTD
    losses_N = token_nats(model, hidden_BTD[is_scored_BT.to(device)], targets_BT[is_scored_BT].to(device))
    per_window = losses_N.double().cpu().split(is_scored_BT.sum(dim=1).tolist())
    return [loss.sum().item() for loss in per_window]


def token_nats(model: Transformer, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    """The negative log-likelihood of each target, (N,); never more than `MAX_LOGITS` logits are held at once."""
    chunk = max(1, MAX_LOGITS // model.config.vocab_size)
    losses = [
        F.cross_entropy(model.logits(hidden), targets, reduction="none")
        for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True)
    ]
    return torch.cat(losses)


def xz_bits_per_byte(heldout: Sequence[bytes], train: Iterable[bytes], max_train_bytes: int) -> dict[str, Score]:
    """What `xz -9e` needs for the held-out bytes: alone, and after it has read (and is not charged for) training text.

    The dictionary spans everything read. Of a large corpus only the first `max_train_bytes` are read, and `how` says
    so: the compressor's memory is about eleven times that.
    """
    text = b"".join(heldout)
    before, is_whole = _bounded(train, max_train_bytes)
    with ThreadPoolExecutor() as threads:  # liblzma works outside the interpreter's lock
        alone, read, both = threads.map(_xz_size, (text, before, before + text))
    read_first = f"{'all' if is_whole else 'the first'} {len(before):,} bytes of training files"
    sizes = {
        "xz": (alone, "xz -9e on the held-out files in one stream"),
        "xz_after_training_files": (
            both - read,
            f"xz -9e on {read_first} and the held-out ones, less the former alone",
        ),
    }
    return {name: Score(8 * size / len(text), None, len(heldout), how) for name, (size, how) in sizes.items()}


def _bounded(parts: Iterable[bytes], limit: int) -> tuple[bytes, bool]:
    """The parts joined, up to `limit` bytes, and whether that is all of them."""
    kept = bytearray()
    for part in parts:
        kept += part
        if len(kept) > limit:
            return bytes(kept[:limit]), False
    return bytes(kept), True


def _xz_size(data: bytes) -> int:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": max(len(data), 1 << 20)}]
    return len(lzma.compress(data, filters=filters))
