"""A room's page in the common style."""

from tests.page import fetched

from inhouse.common.page import render_page


def test_a_page_is_whole_and_escapes_what_it_is_given() -> None:
    model = {"model": "<script>", "battles": 0, "share": 0.0, "stated": None}
    page = render_page("inhouse.arena", "board.html.jinja", about="", table={}, matrix={}, sampling=[model])
    assert page.startswith("<!doctype html>") and "<title>Board · inhouse</title>" in page
    assert "&lt;script&gt;" in page and "<script" not in page and fetched(page) == []
