"""What a climb gained, and what its verbs refuse before anything is loaded."""

import json
import sys
from pathlib import Path

import pytest

from inhouse.cli.app import main
from inhouse.common.model_paths import check_output
from inhouse.rl.settings import RlSettings
from inhouse.rl.verbs.show import gains_table
from inhouse.rl.verbs.tune import Gain, gains, on_a_base


def test_a_model_that_lies_where_another_is_to_be_written_is_not_lost(tmp_path: Path) -> None:
    for folder in ("base", "run/sft", "other", "tuned"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "tuned" / "checkpoints").mkdir()
    for base, output in (("base", "base"), ("run/sft", "run"), ("run/sft", "."), ("base", "other")):
        with pytest.raises(ValueError, match="give another folder"):
            check_output(tmp_path / output, tmp_path / base, "checkpoints")
    for output in ("new", "tuned"):
        check_output(tmp_path / output, tmp_path / "base", "checkpoints")


def test_the_rates_of_somebody_elses_model_are_small() -> None:
    made = on_a_base(RlSettings(matrix_lr=0.5))
    assert (made.matrix_lr, made.embedding_lr) == (0.5, 5e-6)


def test_gains_are_of_the_first_and_the_last_score(tmp_path: Path) -> None:
    rows = [
        {"step": step, "environment": name, "score": score, "standard_error": 0.1, "count": 20}
        for step, name, score in (
            (0, "a", 0.2),
            (0, "b", 0.5),
            (8, "a", 0.4),
            (8, "b", 0.5),
            (9, "a", 0.6),
            (9, "b", 0.4),
        )
    ]
    (tmp_path / "heldout_scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = gains(tmp_path)
    assert found == [Gain("a", 20, 0.2, 0.1, 0.6, 0.1), Gain("b", 20, 0.5, 0.1, 0.4, 0.1)]
    assert list(gains_table(found).columns[-1].cells) == ["+40.0", "-10.0"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tune", "x", "--env", "sums", "--output", "y"], '"sums" has no level'),
        (["tune", "x", "--env", "sums:2", "--output", "y", "--set", "steps=0"], "--set steps: "),
        (["tune", "x", "--env", "sums:2", "--output", "y", "--set", "step=3"], "--set step: "),
        (["tune", "no-such-model", "--env", "sums:2", "--output", "y"], "no-such-model: no such folder"),
        (["rl", "rescore", "."], ".: no rollouts here"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["inhouse", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
