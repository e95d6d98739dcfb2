"""The export stage: folders that open elsewhere, and that know where they come from."""

import json
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
from inhouse.export.settings import ExportSettings
from inhouse.export.stage import export
from inhouse.model.transformer import Transformer

MEASURED = EvaluateSettings(context=64)


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
