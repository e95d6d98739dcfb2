"""Adapters and their base become a model folder."""

import json
from pathlib import Path

import pytest
import torch
from tests.adapted_models import adapted, any_model, logits, randomise

from inhouse.checkpoint.adapter_folder import save_adapters
from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.posttrain.lora.merged import merge_folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Of a base that is kept in bf16."""
    save_model(any_model("glm4_moe"), tmp_path / "base", torch.bfloat16)
    model = adapted("glm4_moe")
    randomise(model)
    save_adapters(model, tmp_path / "adapter", tmp_path / "base")
    return tmp_path / "adapter"


def test_the_folder_computes_what_base_and_adapters_do_in_the_type_of_the_base(adapter: Path, tmp_path: Path) -> None:
    (adapter / "chat_template.jinja").write_text("theirs")
    merge_folder(adapter, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    assert (tmp_path / "merged" / "chat_template.jinja").read_text() == "theirs"
    model = adapted("glm4_moe")
    randomise(model)
    assert (logits(load_model(tmp_path / "merged")) - logits(model)).abs().max() < 0.05


def test_what_cannot_be_merged_is_a_sentence(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"base: there is a model in it already; give another folder"):
        merge_folder(adapter, tmp_path / "base")
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "their/model"}))
    with pytest.raises(ValueError, match=r"its base, 'their/model', is no folder here; say where it lies \(--base\)"):
        merge_folder(adapter, tmp_path / "merged")
    merge_folder(adapter, tmp_path / "merged", tmp_path / "base")
    with pytest.raises(ValueError, match=f"adapters without their base; `inhouse merge {adapter} FOLDER` makes"):
        merge_folder(adapter, tmp_path / "other", adapter)
