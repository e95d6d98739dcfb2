import pytest

from inhouse.common import progress
from inhouse.common.progress import Progress, duration


def test_without_a_terminal_there_is_a_plain_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Progress("pretrain", 1_000, "tokens") as bar:
        for _ in range(10):
            clock[0] += 1.0
            bar.update(100, loss=2.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "pretrain: 50 %, 500 of 1,000 tokens, 100 tokens/s, loss 2.5, 5.0 s left",
        "pretrain: 100 %, 1,000 of 1,000 tokens, 100 tokens/s, loss 2.5, 0.0 s left",
        "pretrain: 100 %, 1,000 of 1,000 tokens, 100 tokens/s, loss 2.5 in 10.0 s",
    ]


def test_resumed_work_counts_towards_the_total_not_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Progress("pretrain", 1_000, "tokens", done=900) as bar:
        clock[0] += 2.0
        bar.update(100)
    assert capsys.readouterr().err == "pretrain: 100 %, 1,000 of 1,000 tokens, 50 tokens/s in 2.0 s\n"


def test_an_unknown_total_shows_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("reading", None, "files") as bar:
        bar.update(3)
    assert capsys.readouterr().err.startswith("reading: 3 files, ")


@pytest.mark.parametrize(("seconds", "text"), [(8.13, "8.1 s"), (200, "3 min 20 s"), (7_500, "2 h 05 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
