"""What a terminal would obey is shown instead."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from inhouse.common.terminal import visible


def test_escapes_and_marks_of_direction_become_signs() -> None:
    assert visible("a\x1b[2Jb\r\n\tc\x00\x7f\x9b\u202e\ufeff") == "a␛[2Jb␍\n\tc␀<U+007F><U+009B><U+202E><U+FEFF>"
    assert visible("Plain, déjà vu: 漢字 🙂 [bold]") == "Plain, déjà vu: 漢字 🙂 [bold]"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(c) for c in shown.replace("\n", "").replace("\t", "")} & {"Cc", "Cf", "Zl", "Zp"}
    assert visible(shown) == shown
