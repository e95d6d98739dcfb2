"""What counts as style in an answer."""

import pytest

from inhouse.arena.style import contrast, style


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", (0, 0, 0, 0)),
        ("Plain words, four.", (3, 0, 0, 0)),
        ("# Title\n\n## Part\ntext", (5, 2, 0, 0)),
        ("**bold** and __bold too__, not 2 ** 3 ** 4 nor a__b__c", (12, 0, 2, 0)),
        ("- one\n* two\n  3. three\n4) four\n-five", (9, 0, 0, 4)),
        ("```python\n# no header\n- no list\n```\n# header", (10, 1, 0, 0)),
    ],
)
def test_counts(text: str, counts: tuple[int, ...]) -> None:
    assert style(text) == counts


def test_contrast_is_between_minus_one_and_one_and_zero_where_there_is_nothing() -> None:
    assert contrast([[30, 0, 0, 2]], [[10, 0, 5, 2]]).tolist() == [[0.5, 0.0, -1.0, 0.0]]
