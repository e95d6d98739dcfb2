"""The ready recipes, start to end, shrunk until they take seconds: every stage, every door into the result."""

import json
import sysconfig
from pathlib import Path

import gguf
import pytest
from tests.page import fetched
from transformers import AutoTokenizer, GenerationConfig

import inhouse
from inhouse.common.files import read_json
from inhouse.common.lineage import check_lineage
from inhouse.engine.request import SamplingParams
from inhouse.export.gguf import write_gguf
from inhouse.pipeline.runner import make
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import Recipe, load_recipe
from inhouse.report.trace import verify_lineage

SHRUNK = [
    "tokenizer.vocab_size=384", "model.size=tiny", "model.context=256",
    "pretrain.tokens=16384", "pretrain.batch_tokens=1024", "pretrain.sequence_length=128", "pretrain.compile=false",
    "sft.generated={addition=20,subtraction=20,brackets=5,strings=5,library=5}",
    "sft.epochs=1", "sft.batch_tokens=1024", "sft.sequence_length=256", "sft.compile=false",
    "rl.steps=2", "rl.prompts=2", "rl.samples=4", "rl.first_samples=4", "rl.max_tokens=16", "rl.evaluate_problems=2",
    "rl.compile=false", "rl.workers=1", "rl.pass_rate_low=0.0",
    'rl.reward.refused=["e"]',  # what so small a model can learn: not to write it
    "evaluate.problems_per_kind=2", "evaluate.unscored_per_kind=2", "evaluate.max_answer_tokens=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few modules of the standard library, each under several names, so that some are held out."""
    folder = tmp_path_factory.mktemp("text")
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("[a-c]*.py"))[:30]:
        (folder / path.name).write_text(path.read_text(encoding="utf-8")[:6_000], encoding="utf-8")
    return folder


def shrunk(name: str, text: Path, *changes: str) -> Recipe:
    return load_recipe(find_recipe(name), [*SHRUNK, f"data.sources.0.path={text}", *changes])


@pytest.mark.parametrize("name", ["preview", "preview-moe"])
def test_a_ready_recipe_gives_a_model_that_answers(name: str, text: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = make(shrunk(name, text), tmp_path, say=said.append)
    scores = json.loads((run / "evaluate" / "scores.json").read_text())
    assert 0 < scores["base/bits_per_byte"]["value"] < 8
    assert {path.suffix for path in (run / "export").iterdir()} >= {".gguf", ".json"}
    measured = read_json(run / "export" / "stage.json")["gguf"]
    assert measured.keys() == {path.name for path in (run / "export").glob("*.gguf")}
    assert abs(measured[f"{name}-Q8_0.gguf"]["loss"]["value"]) < 0.1
    assert check_lineage(run) == []
    assert verify_lineage(run / "export" / "huggingface") == []
    page = (run / "report.html").read_text()
    assert page.count("<svg") >= (14 if name == "preview-moe" else 8)
    assert fetched(page) == []

    for folder, ends in ((run / "pretrain", [0]), (run / "sft", [2, 0]), (run / "export" / "huggingface", [2, 0])):
        theirs = AutoTokenizer.from_pretrained(folder)
        assert GenerationConfig.from_pretrained(folder).eos_token_id == ends
        assert (theirs.eos_token_id, read_json(folder / "config.json")["eos_token_id"]) == (ends[0], ends[0])
    write_gguf(run / "pretrain", run / "base.gguf", "F16", "base")
    assert gguf.GGUFReader(run / "base.gguf").fields["tokenizer.ggml.eos_token_id"].contents() == 0

    for folder in (run, run / "export" / "huggingface"):
        model = inhouse.load(folder)
        params = SamplingParams(max_tokens=8, temperature=0.0)
        assert isinstance(model.chat("What is 3 + 4?", params), str)
        assert isinstance(model.complete("import ", params), str)
    said_before = [{"role": role, "content": "word " * 20} for role in ("user", "assistant") * 3]
    question = {"role": "user", "content": "What is 3 + 4?"}
    kept = inhouse.load(run).recent([*said_before, question], room=64)
    assert 1 <= len(kept) < 7
    assert kept[-1] == question
    assert kept[0]["role"] == "user"
    with pytest.raises(ValueError, match="base model"):
        inhouse.load(run / "pretrain").chat("What is 3 + 4?")

    said.clear()
    make(shrunk(name, text), tmp_path, say=said.append)
    assert all(line.endswith("done before, nothing to do") for line in said)

    weights = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*.safetensors")}
    assert len(weights) >= 3
    said.clear()
    renamed = ["data.sources.0.licence=CC-BY-4.0", "data.sources.0.name=handbook", "sft.sampling.temperature=0.25"]
    make(shrunk(name, text, *renamed), tmp_path, say=said.append)
    climbs = ["rl"] if name == "preview" else []
    told = [line.partition(":")[0] for line in said if line.endswith("into its records")]
    assert told == ["data", "sft", *climbs, "export"]
    if climbs:
        rows = [json.loads(line) for line in (run / "rl" / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2] and rows[0]["groups"] == 2
        assert "Answers of the climb" in page
        assert {"model/exact_match/sums:3", "model/exact_match/addition"} <= scores.keys()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*.safetensors")} == weights
    exported = run / "export" / "huggingface"
    assert "| handbook | CC-BY-4.0 |" in (exported / "README.md").read_text()
    for folder in (run / "sft", exported):
        assert GenerationConfig.from_pretrained(folder).temperature == 0.25
    assert str(text) not in (exported / "lineage.json").read_text()
    assert check_lineage(run) == []
    assert verify_lineage(exported) == verify_lineage(run / "export") == []
