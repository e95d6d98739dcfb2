"""The tokenizer stage: a vocabulary learned from a sample of the documents, and all documents as shards of its ids."""

import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import read_json
from inhouse.common.progress import Progress
from inhouse.data.documents import SPLITS, Document, check_count, document_files, read_document_file
from inhouse.data.process_pool import map_ordered
from inhouse.data.settings import TokenizerSettings
from inhouse.data.shards import ShardInfo, ShardWriter, dtype_for, finish_folder
from inhouse.data.tokenizer import Tokenizer

_SAMPLE_FILES = 128  # document files that the sample is taken from, evenly spread over the corpus
_SAMPLE_CHARACTERS = 1 << 16  # longest piece of one document that is sampled: a few long ones are no corpus
_BATCH_CHARACTERS = 1 << 21


class _Task(NamedTuple):
    number: int
    file: Path


def train_tokenizer(settings: TokenizerSettings, data: Path, output: Path) -> None:
    """Write the tokenizer and `shards/{train,heldout}/` into `output`, from the data stage's folder `data`.

    Raises `ValueError` where the text does not support the vocabulary.
    """
    output.mkdir(parents=True, exist_ok=True)
    with Progress("tokenizer: learn", None, "texts") as progress:
        tokenizer = Tokenizer.train(
            _counted(sample_texts(data, settings.sample_bytes), progress), settings.vocab_size, settings.pre_tokenizer
        )
    tokenizer.save(output)
    for split in SPLITS:
        folder = output / "shards" / split
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        encode = partial(_encode_file, tokenizer=output, folder=folder, tokens_per_shard=settings.tokens_per_shard)
        tasks = [_Task(number, file) for number, file in enumerate(document_files(data, split))]
        shards: list[ShardInfo] = []
        with Progress(f"tokenizer: {split}", len(tasks), "files") as progress:
            for written in map_ordered(encode, tasks, settings.processes):
                shards += written
                progress.update(tokens=sum(shard.tokens for shard in shards))
        check_count(data, split, sum(shard.documents for shard in shards))
        finish_folder(folder, shards)


def sample_texts(data: Path, sample_bytes: int) -> Iterator[str]:
    """About `sample_bytes` of training text, in pieces chosen by hash of their place: the same on every machine."""
    files = document_files(data, "train")
    chosen = files[:: -(-len(files) // _SAMPLE_FILES)]
    num_bytes = read_json(data / "counts.json")["total"]["train_bytes"] * len(chosen) / len(files)
    threshold = min(1.0, sample_bytes / num_bytes) * 2**64
    left = sample_bytes
    for file in chosen:
        for document in read_document_file(file):
            for start in range(0, len(document.text), _SAMPLE_CHARACTERS):
                if int.from_bytes(hashlib.sha256(f"{document.id}@{start}".encode()).digest()[:8]) < threshold:
                    piece = document.text[start : start + _SAMPLE_CHARACTERS]
                    yield piece
                    left -= len(piece.encode())
                    if left <= 0:
                        return


def _counted(texts: Iterator[str], progress: Progress) -> Iterator[str]:
    for text in texts:
        progress.update()
        yield text


def _encode_file(task: _Task, tokenizer: Path, folder: Path, tokens_per_shard: int) -> list[ShardInfo]:
    loaded = Tokenizer.load(tokenizer)
    writer = ShardWriter(folder, f"part-{task.number:07d}", dtype_for(loaded.vocab_size), tokens_per_shard)
    for batch in _batches(read_document_file(task.file)):
        texts = [document.text for document in batch]
        for document, ids in zip(batch, loaded.encode_batch(texts), strict=True):
            writer.add(document, ids, loaded.end_of_document)
    writer.close()
    return writer.shards


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
