"""Texts as counts."""

import numpy as np

from inhouse.gateway.routing.features import LETTERS, LONGEST, WIDTH, WORDS, counts_of


def test_counts_are_of_words_pairs_and_runs_of_letters() -> None:
    counts = counts_of("two words two words")
    assert counts.shape == (WIDTH,) and counts.dtype == np.int64 and WIDTH == WORDS + LETTERS
    assert counts[:WORDS].sum() == 4 + 3
    size = len(" two words two words ")
    assert counts[WORDS:].sum() == (size - 2) + (size - 3) + (size - 4)


def test_numbers_case_and_spaces_are_all_alike() -> None:
    assert np.array_equal(counts_of("Add 12 and\n 34"), counts_of("add 98 and 76"))
    assert not np.array_equal(counts_of("add"), counts_of("sub"))


def test_both_ends_of_a_long_text_count() -> None:
    text = "a" * LONGEST + "middle" + "b" * LONGEST
    assert counts_of(text).sum() < 4.5 * LONGEST
    assert not np.array_equal(counts_of(text), counts_of("a" * LONGEST + "middle" + "c" * LONGEST))
    assert counts_of("").sum() == 0
