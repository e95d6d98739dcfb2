"""The export stage: folders that open elsewhere, and that know where they come from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
import zstandard
from safetensors.torch import load_file

from inhouse.checkpoint.model_folder import load_model
from inhouse.common.files import digest
from inhouse.data.documents import Document, to_line
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.settings import ExportSettings, PlainType, QuantizedType
from inhouse.export.stage import export, write_documents
from inhouse.model.transformer import Transformer

MEASURED = EvaluateSettings()


@pytest.fixture
def run(write_model: Callable[[Path, str], Transformer], tmp_path: Path) -> Path:
    """A run as the pipeline leaves it before export."""
    run = tmp_path / "mine"
    write_model(run / "sft", "glm4_moe")
    attempt = {"started": "2026-01-02T03:04:05+00:00", "code": {"version": "0.1.0", "source": "sha256:" + "a" * 64}}
    record = {"settings": {}, "inputs": {"pretrain": "sha256:" + "b" * 64}, "outputs": {}, "attempts": [attempt]}
    (run / "sft" / "stage.json").write_text(json.dumps({"stage": "sft", "seconds": 1.0, **record}))
    source = {"name": "letters", "licence": "CC-BY-4.0", "documents": 1234, "train_bytes": 9, "heldout_bytes": 8}
    (run / "data" / "documents").mkdir(parents=True)
    (run / "data" / "counts.json").write_text(json.dumps({"sources": [source], "total": {"heldout_documents": 4}}))
    texts = ["", "def f(x):\n    return x\n", "é" * 2000, "Some words.\n"]
    lines = b"".join(to_line(Document(text, 0, str(number))) for number, text in enumerate(texts))
    (run / "data" / "documents" / "heldout-00000.jsonl.zst").write_bytes(zstandard.compress(lines))
    scores = {"bits": {"value": 1.2345678, "standard_error": None, "count": 25, "how": "a | b"}}
    (run / "evaluate").mkdir()
    (run / "evaluate" / "scores.json").write_text(json.dumps(scores))
    return run


def test_files_and_their_lineage(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    export(ExportSettings(gguf=("F32", "Q8_0")), MEASURED, run / "sft", run, output)
    expected = {"huggingface", "lineage.json", "mine-F32.gguf", "mine-Q8_0.gguf", "gguf.json"}
    assert {path.name for path in output.iterdir()} == expected
    for folder in (output, output / "huggingface"):
        facts = json.loads((folder / "lineage.json").read_text())
        assert facts["stages"]["sft"]["inputs"]["stages"]["pretrain"].endswith("b" * 64)
        assert facts["sources"]["sources"][0]["licence"] == "CC-BY-4.0"
        assert "huggingface/model.safetensors" in facts["files"] or "model.safetensors" in facts["files"]
        assert all(digest(folder / name) == value for name, value in facts["files"].items())
    before, after = (load_file(folder / "model.safetensors") for folder in (run / "sft", output / "huggingface"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_card_says_of_each_gguf_file_what_it_holds_and_loses(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    export(ExportSettings(gguf=("Q8_0", "F32")), MEASURED, run / "sft", run, output)
    measured = json.loads((output / "gguf.json").read_text())
    loss, weights = measured["mine-Q8_0.gguf"]["loss"], measured["mine-Q8_0.gguf"]["weights"]
    card = (output / "huggingface" / "README.md").read_text()
    assert list(weights) == ["Q8_0", "F16", "F32"]  # rows of 112; norms and routers
    held = ", ".join(f"{kind} {100 * count / sum(weights.values()):.1f}%" for kind, count in weights.items())
    size = (output / "mine-Q8_0.gguf").stat().st_size
    assert f"| mine-Q8_0.gguf | {size:,} | {loss['value']:+.5f} | {loss['standard_error']:.5f} | {held} |" in card
    assert "| 0 | 0.00000 | F32 100.0% |" in card
    assert "the first 2,048 bytes of 3 of 3 held-out documents, computed in fp32" in card
    (output / "gguf.json").unlink()  # of an earlier inhouse
    write_documents(run / "sft", run, output)
    assert "## GGUF files" not in (output / "huggingface" / "README.md").read_text()


@pytest.mark.parametrize("asked", [("Q4_K_M", "Q6_K"), ("Q4_K_M", "F32"), ("F32", "Q6_K", "F32")])
def test_what_llama_cpp_quantizes_is_one_f32_file_which_stays_only_where_it_is_asked_for(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[PlainType | QuantizedType, ...]
) -> None:
    calls: list[tuple[Path, str]] = []

    def copy(source: Path, target: Path, weights: str) -> None:
        calls.append((source, weights))
        shutil.copyfile(source, target)

    monkeypatch.setattr("inhouse.export.stage.quantize", copy)
    export(ExportSettings(gguf=asked), MEASURED, run / "sft", run, tmp_path / "out")
    names = {f"mine-{weights}.gguf" for weights in asked}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"huggingface", "lineage.json", "gguf.json", *names}
    assert json.loads((tmp_path / "out" / "gguf.json").read_text()).keys() == names
    assert [weights for _, weights in calls] == [weights for weights in asked if weights != "F32"]
    assert len({source for source, _ in calls}) == 1


def test_the_folder_opens_in_transformers_with_its_template(run: Path, tmp_path: Path) -> None:
    export(ExportSettings(gguf=(), weights="bf16"), MEASURED, run / "sft", run, tmp_path / "out")
    folder = tmp_path / "out" / "huggingface"
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert theirs.dtype == torch.bfloat16
    assert theirs.config.eos_token_id == 2
    assert theirs.generation_config.eos_token_id == [2, 0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text.startswith("<|im_start|>user\nhi<|im_end|>")
    ours = load_model(folder)
    assert ours.config == load_model(run / "sft").config


def test_card_says_what_it_is_made_of_and_how_good_it_is(run: Path, tmp_path: Path) -> None:
    export(ExportSettings(gguf=()), MEASURED, run / "sft", run, tmp_path / "out")
    card = (tmp_path / "out" / "huggingface" / "README.md").read_text()
    for words in (
        "# mine",
        "`Glm4MoeForCausalLM`",
        "| letters | CC-BY-4.0 | 1,234 | 9 | 8 |",
        "| bits | 1.235 | n/a | 25 | a \\| b |",
        "| sft | 2026-01-02T03:04:05+00:00 | 0.1.0 `aaaaaaaaaaaa` | pretrain `bbbbbbbbbbbb` |",
        "vllm serve .",
        "inhouse chat .",
    ):
        assert words in card


def test_no_place_on_this_machine_goes_out_with_a_model(run: Path, tmp_path: Path) -> None:
    label = {"name": "letters", "licence": "MIT", "path": "/home/somebody/secret project/letters"}
    told = {"conversations": [{"path": "/home/somebody/answers.jsonl", "licence": "MIT"}]}
    record = json.loads((run / "sft" / "stage.json").read_text()) | {"labels": {"sources": [label], **told}}
    (run / "sft" / "stage.json").write_text(json.dumps(record))
    (run / "data" / "stage.json").write_text(json.dumps(record | {"stage": "data", "inputs": {"stages": {}}}))
    (run / "sft" / "conversations.json").write_text(json.dumps({"files": [{"conversations": 1234}]}))
    output = tmp_path / "out"
    export(ExportSettings(gguf=()), MEASURED, run / "sft", run, output)
    written = [path for path in output.rglob("*") if path.suffix in (".json", ".md")]
    assert len(written) > 4
    assert not [path.name for path in written if "somebody" in path.read_text() or str(tmp_path) in path.read_text()]
    facts = json.loads((output / "lineage.json").read_text())
    assert facts["sources"]["sources"][0]["path"] == "letters"
    assert facts["conversations"] == [{"path": "answers.jsonl", "licence": "MIT", "conversations": 1234}]
    card = (output / "huggingface" / "README.md").read_text()
    assert "| answers.jsonl | MIT | 1234 |" in card


def test_a_base_model_without_chat_template_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "sft" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"no chat_template\.jinja there"):
        export(ExportSettings(), MEASURED, run / "sft", run, tmp_path / "out")
