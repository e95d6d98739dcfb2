"""llama.cpp's quantizer: its failures are sentences, its files whole, and say what we read in them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.export.gguf import write_gguf
from inhouse.export.gguf_reader import fill_from_gguf, weights_by_type
from inhouse.export.quantize import is_installed, quantize
from inhouse.export.settings import QUANTIZED, QuantizedType
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer

needs_llama_cpp = pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")

STAND_IN = """
import os, sys
from types import SimpleNamespace

def llama_model_quantize_default_params():
    return SimpleNamespace(ftype=None)

def llama_model_quantize(source, target, params):
    open(target, "wb").write(open(source, "rb").read() + str(params.ftype).encode())
    {ends}
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A `llama_cpp` for the quantizer's process that writes something and then ends in this way."""

    def install(ends: str) -> None:
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "llama_cpp.py").write_text(STAND_IN.format(ends=ends))
        paths = [str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    (tmp_path / "plain.gguf").write_bytes(b"plain ")
    return install


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        (
            'print("loading", file=sys.stderr); '
            'print("llama_model_quantize: failed to quantize: no such type\\n", file=sys.stderr); return 1',
            "failed to quantize: no such type",
        ),
        ("return 3", "exit status 3"),
        ('print("GGML_ASSERT(a) failed", file=sys.stderr, flush=True); os.abort()', "SIGABRT ended it; GGML_ASSERT(a)"),
        ("os.kill(os.getpid(), 9)", "SIGKILL ended it"),
        ("raise OSError('no library')", "OSError: no library"),
    ],
)
def test_a_failure_is_a_sentence_and_leaves_nothing(
    stand_in: Callable[[str], None], ends: str, reason: str, tmp_path: Path
) -> None:
    stand_in(ends)
    with pytest.raises(ValueError) as error:
        quantize(tmp_path / "plain.gguf", tmp_path / "m.gguf", "Q6_K")
    assert str(error.value).startswith(f"{tmp_path}/m.gguf: llama.cpp's quantizer could not write it: {reason}")
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"modules", "plain.gguf"}


@pytest.mark.parametrize(("weights", "number"), [("Q6_K", 18), ("Q4_K_M", 15)])
def test_a_whole_file_takes_the_place_of_an_older_one(
    stand_in: Callable[[str], None], weights: QuantizedType, number: int, tmp_path: Path
) -> None:
    stand_in("return 0")
    (tmp_path / "m.gguf").write_bytes(b"older")
    quantize(tmp_path / "plain.gguf", tmp_path / "m.gguf", weights)
    assert (tmp_path / "m.gguf").read_bytes() == f"plain {number}".encode()
    assert {path.name for path in tmp_path.iterdir()} == {"modules", "plain.gguf", "m.gguf"}


def test_a_full_disk_is_called_so(
    stand_in: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("return 1")
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and FullDisk)
    with pytest.raises(OSError, match="No space left"):
        quantize(tmp_path / "plain.gguf", tmp_path / "m.gguf", "Q6_K")


class FullDisk:
    free = 0


def wide_model(folder: Path, write_model: Callable[[Path, str], Transformer], architecture: str) -> Transformer:
    """As `write_model` writes it, with rows of whole blocks, and of 128 in the experts."""
    small = write_model(folder, architecture).config
    moe = {"moe_intermediate_size": 128} if small.is_moe else {}
    shape = small.model_dump() | {"hidden_size": 256, "head_dim": 64, "intermediate_size": 256, **moe}
    model = Transformer(ModelConfig(**shape))
    model.initialize(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    save_model(model, folder)
    return model


@needs_llama_cpp
@pytest.mark.parametrize("weights", QUANTIZED)
def test_what_llama_cpp_quantizes_it_reads_as_we_do(
    write_model: Callable[[Path, str], Transformer], architecture: str, weights: QuantizedType, tmp_path: Path
) -> None:
    """The likeliest next tokens, where the likeliest is clearly so, by the weights that we dequantized."""
    from bench.gguf_parity import open_in_llama

    wide_model(tmp_path, write_model, architecture)
    write_gguf(tmp_path, tmp_path / "plain.gguf", "F32", "m")
    quantize(tmp_path / "plain.gguf", tmp_path / "m.gguf", weights)
    kinds, plain = weights_by_type(tmp_path / "m.gguf"), weights_by_type(tmp_path / "plain.gguf")
    assert sum(kinds.values()) == plain["F32"]
    assert next(iter(kinds)) in ({"Q6_K": "Q6_K", "Q4_K_M": "Q4_K"}[weights], "Q8_0", "Q5_0")
    assert ("Q8_0" in kinds) == (architecture != "qwen3"), "experts' rows of 128"
    model = load_model(tmp_path)
    assert fill_from_gguf(model, tmp_path / "m.gguf")
    tokens = torch.arange(5, 69)
    with torch.inference_mode():
        ours = model.logits(model(tokens[None]).hidden_BTD[0])
    llama = open_in_llama(tmp_path / "m.gguf", exact=True)
    llama.eval(tokens.tolist())
    theirs = torch.tensor(llama.scores[: len(tokens)])
    first, second = ours.topk(2).values.T
    is_clear = first - second > 0.25 * ours.std()
    assert is_clear.sum() >= 16
    agrees = (ours.argmax(dim=1) == theirs.argmax(dim=1))[is_clear]
    # llama.cpp rounds activations too: of two experts that score nearly alike it may choose the other
    assert agrees.float().mean() >= (1.0 if architecture == "qwen3" else 0.9)


@needs_llama_cpp
def test_what_llama_cpp_does_not_take_is_its_own_sentence(tmp_path: Path) -> None:
    (tmp_path / "plain.gguf").write_bytes(b"GGUF of nothing")
    with pytest.raises(ValueError, match="could not write it: failed to quantize"):
        quantize(tmp_path / "plain.gguf", tmp_path / "m.gguf", "Q4_K_M")
    assert {path.name for path in tmp_path.iterdir()} == {"plain.gguf"}
