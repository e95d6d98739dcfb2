"""What a GGUF file loses is measured with the weights that it gives back."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
import zstandard

from inhouse.checkpoint.model_folder import load_model
from inhouse.common.files import write_json
from inhouse.data.documents import Document, to_line
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export import loss
from inhouse.export.gguf import gguf_tensors, write_gguf
from inhouse.export.gguf_reader import fill_from_gguf, weights_by_type
from inhouse.model.transformer import Transformer

WriteModel = Callable[[Path, str], Transformer]


def heldout(folder: Path, texts: list[str]) -> Path:
    (folder / "documents").mkdir(parents=True)
    lines = b"".join(to_line(Document(text, 0, str(number))) for number, text in enumerate(texts))
    (folder / "documents" / "heldout-00000.jsonl.zst").write_bytes(zstandard.compress(lines))
    write_json(folder / "counts.json", {"total": {"heldout_documents": len(texts)}})
    return folder


def test_a_model_gets_the_numbers_that_the_file_holds(
    write_model: WriteModel, architecture: str, tmp_path: Path
) -> None:
    write_model(tmp_path, architecture)
    write_gguf(tmp_path, tmp_path / "exact.gguf", "F32", "m")
    write_gguf(tmp_path, tmp_path / "short.gguf", "Q8_0", "m")
    model, before = load_model(tmp_path), load_model(tmp_path).state_dict()
    assert not fill_from_gguf(model, tmp_path / "exact.gguf")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert fill_from_gguf(model, tmp_path / "short.gguf")
    after = gguf_tensors(model.state_dict(), model.config)
    for tensor in gguf.GGUFReader(tmp_path / "short.gguf").tensors:
        assert torch.equal(after[tensor.name], torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
    assert sum(weights_by_type(tmp_path / "short.gguf").values()) == sum(tensor.numel() for tensor in after.values())


def test_another_models_file_is_refused(write_model: WriteModel, tmp_path: Path) -> None:
    for architecture in ("qwen3", "glm4_moe"):
        write_model(tmp_path / architecture, architecture)
        write_gguf(tmp_path / architecture, tmp_path / f"{architecture}.gguf", "F32", "m")
    with pytest.raises(ValueError, match=r"glm4_moe\.gguf: holds other tensors than its model: .*blk\.1\.exp_probs_b"):
        fill_from_gguf(load_model(tmp_path / "qwen3"), tmp_path / "glm4_moe.gguf")


def test_the_loss_is_the_difference_of_two_scores_on_the_same_text(write_model: WriteModel, tmp_path: Path) -> None:
    write_model(tmp_path, "glm4_moe")
    texts = ["def f(x):\n    return x\n", "", "import os\n" * 20, "é"]
    files = []
    for weights in ("F32", "Q8_0"):
        files.append(tmp_path / f"m-{weights}.gguf")
        write_gguf(tmp_path, files[-1], weights, "m")
    settings = EvaluateSettings(context=32, stride=8)
    exact, short = loss.measure(files, tmp_path, heldout(tmp_path / "data", texts), settings).values()
    assert (exact["loss"]["value"], exact["weights"].keys()) == (0.0, {"F32"})
    model, tokenizer = load_model(tmp_path), Tokenizer.load(tmp_path)
    before = bits_per_byte(model, tokenizer, texts, 32, 8)
    fill_from_gguf(model, files[1])
    after = bits_per_byte(model, tokenizer, texts, 32, 8)
    assert short["loss"]["value"] == pytest.approx(after.value - before.value, abs=1e-6) != 0
    assert short["loss"]["count"] == 3
    assert 0 < short["loss"]["standard_error"] < before.standard_error
    assert short["bytes"] == files[1].stat().st_size < exact["bytes"]


def test_the_sample_is_bounded_even_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "MAX_DOCUMENTS", 4)
    monkeypatch.setattr(loss, "MAX_BYTES", 5)
    texts = ["", *(f"{number}ééé" for number in range(9))]
    assert loss.sample(texts) == (["0éé", "3éé", "6éé"], "the first 5 bytes of 3 of 9 held-out documents")
    assert loss.sample(["ab", "c"]) == (["ab", "c"], "the first 5 bytes of 2 of 2 held-out documents")
    with pytest.raises(ValueError, match="no held-out text"):
        loss.sample(["", ""])
