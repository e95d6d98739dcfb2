"""What the readers share."""

import pytest

from inhouse.evaluate.compare.shared import cluster_of, finite


def test_passages_are_found_under_their_usual_names() -> None:
    assert cluster_of({"passage": "a"}, None, "x") == cluster_of({"article": "a"}, None, "x")
    assert cluster_of({"question": "a"}, None, "x") is None
    assert cluster_of("text", None, "x") is None
    assert [cluster_of({"context": empty}, key, "x") for empty in ("", " ", None) for key in (None, "context")] == [
        None
    ] * 6
    assert cluster_of({"passage": "a", "book": [1]}, "book", "x") == cluster_of({"book": [1]}, "book", "x")
    with pytest.raises(ValueError, match="x: its document has no book; it has no keys"):
        cluster_of(None, "book", "x")


def test_only_numbers_are_scores() -> None:
    assert finite(True, "x") == 1.0
    with pytest.raises(ValueError, match="x is nan; only numbers"):
        finite(float("nan"), "x")
    with pytest.raises(ValueError, match="x is inf; only numbers"):
        finite(10**400, "x")
