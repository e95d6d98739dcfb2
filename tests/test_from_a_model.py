"""`[model] base`: from somebody else's folder to a fine-tuned model, with and without more pretraining."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from tests.foreign import make_foreign
from transformers import AutoModelForCausalLM, AutoTokenizer

from inhouse.checkpoint.model_folder import load_model
from inhouse.common.files import read_json
from inhouse.common.lineage import check_lineage, lineage
from inhouse.pipeline.plan import make_plan
from inhouse.pipeline.runner import make
from inhouse.pipeline.stages import stages_of
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.opened_model import open_folder
from inhouse.recipe.derived import all_numbers
from inhouse.recipe.notes import notes
from inhouse.recipe.passes import passes_over_text
from inhouse.recipe.recipe import Recipe, load_recipe
from inhouse.report.trace import render

ROOT = Path(__file__).parents[1]
QUICK = [
    *(f"{stage}.{key}" for stage in ("pretrain", "sft") for key in (
        "compile=false", "precision=fp32", "sequence_length=128", "batch_tokens=256",
    )),
    "evaluate.xz_training_bytes=0", "evaluate.context=64", "export.weights=bf16",
]  # fmt: skip
TURNS = [("Who keeps the key?", "Ann keeps it."), ("Since when?", "Since May.")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe on the page, and what it names."""
    folder = tmp_path_factory.mktemp("project")
    page = (ROOT / "docs" / "from-a-model.md").read_text()
    (recipe,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (folder / "from-a-model.toml").write_text(recipe)
    (folder / "our-manuals").mkdir()
    (folder / "our-manuals" / "page.md").write_text(page)
    messages = [
        {"role": role, "content": content}
        for question, answer in TURNS
        for role, content in (("user", question), ("assistant", answer))
    ]
    (folder / "questions.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    make_foreign(folder / "Qwen3-0.6B", [page])
    return folder


def load(project: Path, *overrides: str) -> Recipe:
    return load_recipe(project / "from-a-model.toml", [*QUICK, *overrides])


@pytest.fixture(scope="module")
def run(project: Path) -> Path:
    made = make(load(project), project / "runs", say=lambda line: None)
    assert made is not None
    return made


def test_fine_tuning_alone_takes_the_base_as_it_is(project: Path, run: Path) -> None:
    base = project / "Qwen3-0.6B"
    for path in base.iterdir():
        assert (run / "pretrain" / path.name).read_bytes() == path.read_bytes()
    assert not (run / "pretrain" / "checkpoints").exists()
    before, after = load_model(base), load_model(run / "sft")
    assert after.config == before.config
    assert after.config.tie_embeddings and after.config.vocab_size == len(AutoTokenizer.from_pretrained(base)) + 13
    drift = (after.embed_tokens.weight - before.embed_tokens.weight).abs().max().item()
    assert 0 < drift < 0.002  # a tenth of its deviation


def test_what_comes_out_is_the_bases_own_format(project: Path, run: Path) -> None:
    exported = run / "export" / "huggingface"
    said, theirs = (
        read_json(exported / "generation_config.json"),
        read_json(project / "Qwen3-0.6B/generation_config.json"),
    )
    assert {key: said[key] for key in theirs} == theirs
    tokenizer = AutoTokenizer.from_pretrained(exported)
    prompt = [{"role": "user", "content": TURNS[0][0]}]
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    opened = open_folder(exported)
    assert ids == encode_prompt(opened.tokenizer, prompt, str(opened.chat_template))
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    with torch.no_grad():
        expected, logits = (
            model(torch.tensor([ids])).logits,
            opened.model.logits(opened.model(torch.tensor([ids])).hidden_BTD),
        )
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-3)
    assert not list((run / "export").glob("*.gguf"))


def test_the_base_stands_in_records_lineage_and_card(project: Path, run: Path) -> None:
    assert check_lineage(run) == []
    for stage in ("tokenizer", "pretrain"):
        record = read_json(run / stage / "stage.json")
        assert len(record["inputs"]["base"]) == 1
        assert record["labels"]["base"][0]["licence"] == "Apache-2.0"
    facts = lineage(run)
    assert "Qwen3-0.6B (" in "\n".join(render(facts))
    card = (run / "export/huggingface/README.md").read_text()
    assert "fine-tuned from Qwen3-0.6B (licence: Apache-2.0) with inhouse" in card
    assert "scratch" not in card and "trained further" not in card
    assert str(project) not in (run / "export/huggingface/lineage.json").read_text()


def reasons(recipe: Recipe, run: Path) -> dict[str, str]:
    return {each.stage.name: each.reason for each in make_plan(stages_of(recipe, run), run, ()) if each.reason}


def test_only_another_base_makes_anew(project: Path, run: Path, tmp_path: Path) -> None:
    base = project / "Qwen3-0.6B"
    os.utime(base / "model.safetensors", (1, 1))
    assert reasons(load(project), run) == {}
    moved = tmp_path / "renamed"
    shutil.copytree(base, moved)
    (moved / "README.md").write_text("A card.")
    assert reasons(load(project, f"model.base={moved}", "model.base_licence=MIT"), run) == {}
    (moved / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    changed = reasons(load(project, f"model.base={moved}"), run)
    assert list(changed) == ["tokenizer", "pretrain", "sft", "evaluate", "export"]
    assert "model folder renamed changed" in changed["tokenizer"]
    more = reasons(load(project, "pretrain.tokens=512"), run)
    assert list(more) == ["pretrain", "sft", "evaluate", "export"]


def test_more_pretraining_goes_on_from_its_weights(project: Path, tmp_path: Path) -> None:
    recipe = load(project, "pretrain.tokens=5120", "pretrain.log_every=1", "pretrain.checkpoint_every=5",
                  "pretrain.warmup_steps=0", "pretrain.lr_factor=20")  # fmt: skip
    until: list[str] = []

    def stop(line: str) -> None:
        until.append(line)

    run = make(recipe, tmp_path, "pretrain", say=stop)
    assert run is not None
    losses = [json.loads(line)["loss"] for line in (run / "pretrain/metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.1
    opened = load_model(run / "pretrain")
    assert opened.config == load_model(project / "Qwen3-0.6B").config
    assert (run / "pretrain/chat_template.jinja").is_file()
    # and longer: from the last checkpoint before the decay, tied embedding and all
    longer = load(project, "pretrain.tokens=10240", "pretrain.log_every=1", "pretrain.checkpoint_every=5",
                  "pretrain.warmup_steps=0", "pretrain.lr_factor=20")  # fmt: skip
    make(longer, tmp_path, "pretrain", say=stop)
    assert read_json(run / "pretrain/branch.json")["step"] == 7


def test_every_process_gets_the_whole_recipe(project: Path) -> None:
    recipe = load(project)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_run_is_a_base_and_its_own_template_goes_on(project: Path, run: Path) -> None:
    recipe = load(project, f"model.base={run}")
    (stage,) = {stage.base for stage in stages_of(recipe, run.with_name("another")) if stage.base}
    assert stage == (run / "sft",)


def test_the_dry_run_says_what_follows_from_the_base(project: Path) -> None:
    recipe = load_recipe(project / "from-a-model.toml")
    passes = passes_over_text(recipe, project / "runs" / "none", is_made=False)
    numbers = {f"{n.section}.{n.name}": (n.value, n.rule) for n in all_numbers(recipe, passes)}
    assert numbers["model.hidden_size"] == (64, "from Qwen3-0.6B")
    assert numbers["model.context"] == (4096, "from base")
    assert numbers["pretrain.steps"][0] == 0
    assert "model.size" not in numbers
    assert numbers["sft.sequence_length"][0] == 512
    assert numbers["sft.matrix_lr"][1].startswith("default of a [model] base")
    assert numbers["sft.sampling.top_p"][0] == 0.8
    assert ["gguf" in note for note in notes(recipe, passes)] == [True]
    written = load_recipe(project / "from-a-model.toml", ["sft.matrix_lr=0.004", "sft.sampling.top_p=0.5"])
    assert (written.sft.matrix_lr, written.sft.sampling.top_p, written.sft.sampling.temperature) == (0.004, 0.5, 0.7)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.size=tiny", "--set model.size=tiny: [model] size does not go with base"),
        ("model.context=512", "[model] context does not go with base"),
        ("tokenizer.vocab_size=512", "[tokenizer] vocab_size does not go with [model] base"),
        ("pretrain.tokens_per_parameter=3", "[pretrain] tokens_per_parameter is for a model from random weights"),
        ("sft.sequence_length=8192", "[sft] sequence_length = 8192 is more than [model] context = 4096"),
        ('export.gguf=["F32"]', "[export] gguf: none can be written"),
        ("model.base=nowhere", "--set model.base=nowhere: [model] base: "),
        ("model.base=.", "no model here yet"),
        ("sft.conversations=[]", "[sft] has no conversations to fine-tune on"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    project: Path, override: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        load_recipe(project / "from-a-model.toml", [override])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def without(name: str, key: str, value: object = None):
    def damage(folder: Path) -> None:
        content = read_json(folder / name)
        content[key] = value
        (folder / name).write_text(json.dumps(content))

    return damage


def shorter(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (without("config.json", "model_type", "llama"), "model_type = 'llama'"),
        (without("config.json", "tie_word_embeddings", False), "lacks tensor lm_head.weight"),
        (without("config.json", "vocab_size", 300), "tensor model.embed_tokens.weight has shape"),
        (shorter, "not a whole safetensors file"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json here"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{% if %}"), "its chat template cannot be trained"),
        (lambda folder: (folder / "chat_template.jinja").write_text("hello"), "its chat template cannot be trained"),
    ],
)
def test_a_folder_that_cannot_be_gone_on_from_is_a_sentence_with_the_recipes_line(
    project: Path, damage, sentence: str, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(project / "Qwen3-0.6B", folder)
    damage(folder)
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[model]\nbase = "base"\n[sft]\ngenerated = { addition = 3 }\n')
    with pytest.raises(ValueError) as error:
        load_recipe(recipe)
    assert str(error.value).startswith(f"{recipe}, line 2: [model] base: ")
    assert sentence in str(error.value)


def test_a_base_without_a_template_is_taught_ours_if_it_can_write_turns(tmp_path: Path) -> None:
    folder = make_foreign(tmp_path / "base", ["some text"], template=None)
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[model]\nbase = "base"\n[sft]\ngenerated = { addition = 3 }\n')
    assert load_recipe(recipe).sft.sampling.top_p == 0.95  # ours: its own are not for turns
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|im_start|>", "<|user|>"))
    with pytest.raises(ValueError, match=r"has no chat template, and its tokenizer no <\|im_start\|>"):
        load_recipe(recipe)


def test_another_machines_base_need_not_be_here_to_write_its_job(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[model]\nbase = "there"\n[sft]\ngenerated = { addition = 3 }\n')
    assert load_recipe(recipe, reads_here=False).model.base == tmp_path / "there"
