"""Charts are SVG texts in the page's own colours."""

from inhouse.report.plots import line_chart, point_chart, share_bar


def test_a_share_bar_names_every_part_with_its_share() -> None:
    svg = share_bar({"stepping": 30.0, "idle": 10.0, "slow": 0.0})
    assert svg.startswith("<svg")
    assert "stepping 75.0 %" in svg and "idle 25.0 %" in svg
    assert "slow" not in svg
    assert "currentColor" in svg


def test_the_same_chart_is_the_same_text() -> None:
    lines = {"a": ([0.0, 1.0], [2.0, 3.0])}
    assert line_chart(lines, "x", "y") == line_chart(lines, "x", "y")
    assert share_bar({"a": 1.0}) == share_bar({"a": 1.0})


def test_points_with_intervals_have_their_line_and_a_level() -> None:
    points = {"in FLOPs": [(1e12, 1.2, 1.1, 1.3), (4e12, 1.1, 0.9, 1.4)]}
    lines = {"in FLOPs": ([1e12, 4e12], [1.2, 1.1])}
    drawn = point_chart(points, "FLOPs", "gain", lines=lines, level=1.0, log_y=True)
    assert drawn.startswith("<svg")
    assert drawn == point_chart(points, "FLOPs", "gain", lines=lines, level=1.0, log_y=True)
    assert drawn != point_chart(points, "FLOPs", "gain")
