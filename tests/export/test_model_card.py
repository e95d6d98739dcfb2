"""The head of a card says the model's own scores, as Hugging Face reads them."""

import pytest
from tests.tiny_models import tiny_config

from inhouse.export.model_card import model_card


def test_the_model_s_own_scores_are_its_index() -> None:
    hub = pytest.importorskip("huggingface_hub")
    score = {"value": 0.5, "standard_error": 0.1, "count": 9, "how": "greedy"}
    scores = {
        "base/bits_per_byte": score, "xz/bits_per_byte": score, "model/bits_per_byte": score,
        "model/exact_match/addition": score, "model/own/bits_per_byte": score, "model/unparsable": score,
    }  # fmt: skip
    card = hub.ModelCard(model_card("mine", tiny_config("qwen3"), {"stages": {}}, scores, {}))
    assert card.data.model_name == "mine"
    found = {(result.dataset_name, result.metric_type) for result in card.data.eval_results}
    of_held_out = {("held-out", "bits_per_byte"), ("held-out", "unparsable")}
    assert found == of_held_out | {("addition", "exact_match"), ("own", "bits_per_byte")}


def test_without_scores_there_is_no_index() -> None:
    assert "model-index" not in model_card("mine", tiny_config("qwen3"), {"stages": {}}, {}, {})
