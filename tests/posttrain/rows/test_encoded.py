"""Files of encoded conversations: whole or not there, and told apart by what is in them."""

from pathlib import Path

import numpy as np
import pytest

from inhouse.common.errors import Refusal
from inhouse.posttrain.chat_template import Encoded
from inhouse.posttrain.rows.encoded import ConversationWriter, EncodedConversations, is_written, lay, size

TWO = [Encoded([5, 6, 7, 8], [False, True, True, False]), Encoded([70_000, 9], [False, True])]


def written(folder: Path, conversations: list[Encoded], vocab_size: int = 100_000) -> EncodedConversations:
    writer = ConversationWriter(folder, vocab_size)
    for each in conversations:
        writer.add(lay([each], writer.dtype))
    writer.finish()
    return EncodedConversations(folder)


def test_a_conversation_is_read_up_to_its_last_trained_token(tmp_path: Path) -> None:
    encoded = written(tmp_path, TWO)
    assert len(encoded) == 2
    assert [[part.tolist() for part in encoded.read(number)] for number in range(2)] == [
        [[5, 6, 7], [0, 1, 1]], [[70_000, 9], [0, 1]],
    ]  # fmt: skip
    assert [size(each) for each in TWO] == [2, 1]
    assert (tmp_path / "ids.bin").stat().st_size == 5 * 4


def test_a_small_vocabulary_takes_two_bytes_a_token(tmp_path: Path) -> None:
    assert written(tmp_path, TWO[:1], 60_000).dtype == np.uint16
    assert (tmp_path / "ids.bin").stat().st_size == 3 * 2


def test_the_digest_is_of_ids_of_what_is_trained_and_of_bounds(tmp_path: Path) -> None:
    others = [
        TWO,
        TWO[::-1],
        [Encoded([5, 6, 7, 8], [False, False, True, False]), TWO[1]],
        [Encoded([5, 6, 9, 8], [False, True, True, False]), TWO[1]],
        [Encoded([5, 6, 7, 70_000, 9], [False, True, True, False, True])],
    ]
    assert len({written(tmp_path / str(i), each).digest for i, each in enumerate(others)}) == len(others)
    writer = ConversationWriter(tmp_path / "at once", 100_000)
    writer.add(lay(TWO, writer.dtype))
    writer.finish()
    assert EncodedConversations(tmp_path / "at once").digest == EncodedConversations(tmp_path / "0").digest


def test_a_folder_is_whole_with_its_index_and_not_before(tmp_path: Path) -> None:
    writer = ConversationWriter(tmp_path, 100)
    writer.add(lay(TWO[:1], writer.dtype))
    assert not is_written(tmp_path)
    writer.finish()
    assert is_written(tmp_path)


@pytest.mark.parametrize("file", ["ids.bin", "trained.bin", "lengths.bin"])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, file: str) -> None:
    written(tmp_path, TWO)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-1])
    with pytest.raises(Refusal, match=f"{file} is missing or was changed"):
        EncodedConversations(tmp_path)
