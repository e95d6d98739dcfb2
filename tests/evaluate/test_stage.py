"""The stage end to end on a tiny model: every score is complete, and the answers are kept."""

import copy
import json
from pathlib import Path

import pytest
import torch
import zstandard

from inhouse.checkpoint.model_folder import save_model
from inhouse.data.documents import Document, to_line
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.score import Score
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.evaluate.stage import evaluate, evaluate_model
from inhouse.model.transformer import Transformer

SETTINGS = EvaluateSettings(problems_per_kind=3, unscored_per_kind=4, max_answer_tokens=8)
KINDS = ("addition", "subtraction", "brackets", "strings")
SOURCE = 'def loads{}(text):\n    """Parse text."""\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "documents"
    folder.mkdir(parents=True)
    for split in ("train", "heldout"):
        documents = [Document(SOURCE.format(i), 0, f"m{i}.py") for i in range(3)]
        (folder / f"{split}-00000.jsonl.zst").write_bytes(zstandard.compress(b"".join(map(to_line, documents))))
    (tmp_path / "data" / "counts.json").write_text('{"total": {"train_documents": 3, "heldout_documents": 3}}')
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path, model: Transformer, tokenizer: Tokenizer) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer.save(folder)
    save_model(model, folder)
    return folder


@pytest.fixture
def tuned(folder: Path) -> Path:
    """The same folder as fine-tuning leaves it: it says what it was trained on."""
    counts = {"generated": {"library": 5, "strings": 5, "brackets": 5, "subtraction": 5, "addition": 5}}
    (folder / "conversations.json").write_text(json.dumps(counts))
    return folder


@pytest.fixture
def base(tmp_path: Path, model: Transformer, tokenizer: Tokenizer) -> Path:
    """A model that knows nothing: each token is as likely as any other."""
    folder = tmp_path / "base"
    folder.mkdir()
    tokenizer.save(folder)
    ignorant = copy.deepcopy(model)
    torch.nn.init.zeros_(ignorant.lm_head.weight)
    save_model(ignorant, folder)
    return folder


def test_scores_and_samples(tmp_path, data, base, tuned):
    output = tmp_path / "output"
    evaluate(SETTINGS, data, base, tuned, output)
    scores = json.loads((output / "scores.json").read_text())
    assert set(scores) == {
        "base/bits_per_byte", "xz/bits_per_byte", "xz_after_training_files/bits_per_byte", "model/bits_per_byte",
        "model/unparsable", "model/ends_by_itself", *(f"model/exact_match/{kind}" for kind in KINDS),
    }  # fmt: skip
    assert all(set(score) == set(Score._fields) for score in scores.values())
    for name, folder in (("base", base), ("model", tuned)):
        alone, _ = evaluate_model(SETTINGS, folder, data)
        assert scores[f"{name}/bits_per_byte"]["value"] == alone["bits_per_byte"].value
    assert scores["base/bits_per_byte"]["value"] != scores["model/bits_per_byte"]["value"]
    assert scores["model/ends_by_itself"]["count"] == 3 * 4 + 4
    samples = [json.loads(line) for line in (output / "samples.jsonl").read_text().splitlines()]
    assert [sample["kind"] for sample in samples] == [kind for kind in KINDS for _ in range(3)] + ["library"] * 4


def test_a_folder_without_a_corpus_is_asked_the_problems_only(tuned):
    scores, samples = evaluate_model(SETTINGS, tuned)
    assert "bits_per_byte" not in scores
    assert [sample.kind for sample in samples] == [kind for kind in KINDS for _ in range(3)]


def test_only_what_was_trained_is_scored(data, folder):
    assert set(evaluate_model(SETTINGS, folder, data)[0]) == {"bits_per_byte"}
    (folder / "conversations.json").write_text('{"generated": {"strings": 7, "addition": 0}}')
    assert set(evaluate_model(SETTINGS, folder)[0]) == {"exact_match/strings", "unparsable", "ends_by_itself"}


def test_or_what_is_asked_for(data, tuned):
    asked = SETTINGS.model_copy(update={"environments": ("brackets",)})
    assert {sample.kind for sample in evaluate_model(asked, tuned)[1]} == {"brackets"}
    (tuned / "conversations.json").unlink()
    assert {sample.kind for sample in evaluate_model(asked, tuned)[1]} == {"brackets"}
    nothing = SETTINGS.model_copy(update={"environments": ()})
    assert set(evaluate_model(nothing, tuned, data)[0]) == {"bits_per_byte"}


def test_nothing_to_measure_is_a_sentence(folder):
    with pytest.raises(ValueError, match=r"nothing to measure: .* --env, of addition, subtraction"):
        evaluate_model(SETTINGS, folder)


def test_an_environment_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match='there is no environment "chess"'):
        EvaluateSettings(environments=("chess",))


def test_own_conversations_that_were_held_out_are_scored_and_answered(data, base, folder):
    turns = [{"role": "user", "content": "Who wrote it?"}, {"role": "assistant", "content": "We did."}]
    (folder / "heldout.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    scores, samples = evaluate_model(SETTINGS, folder, data)
    assert set(scores) == {"bits_per_byte", "own/bits_per_byte", "ends_by_itself"}  # and nothing that was switched off
    ((kind, prompt, expected, *_),) = samples
    assert (kind, prompt, expected) == ("own", "Who wrote it?", "We did.")
    assert set(evaluate_model(SETTINGS, folder)[0]) == {"own/bits_per_byte", "ends_by_itself"}  # without a corpus too
    others = SETTINGS.model_copy(update={"environments": ("brackets",)})
    assert {sample.kind for sample in evaluate_model(others, folder)[1]} == {"brackets"}


def test_where_none_was_held_out_some_that_were_taught_are_asked_and_said_to_be(data, folder):
    turns = [{"role": "user", "content": "Who wrote it?"}, {"role": "assistant", "content": "We did."}]
    (folder / "taught.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    scores, samples = evaluate_model(SETTINGS, folder, data)
    assert set(scores) == {
        "bits_per_byte",
        "own_trained_on/bits_per_byte",
    }
    assert "trained on" in scores["own_trained_on/bits_per_byte"].how
    assert [(sample.kind, sample.expected) for sample in samples] == [("own_trained_on", "We did.")]
    (folder / "heldout.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert set(evaluate_model(SETTINGS, folder)[0]) == {"own/bits_per_byte", "ends_by_itself"}
