"""Fine-tuning end to end on a tiny model: what it learns from, and a folder that others can open."""

import json
from pathlib import Path

import pytest
import torch
import zstandard
from transformers import AutoTokenizer

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.data.documents import Document, to_line
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_prompt
from inhouse.posttrain.conversations import trained_on
from inhouse.posttrain.settings import SamplingDefaults, SftSettings
from inhouse.posttrain.sft import fine_tune, gather, write_sampling_defaults

SOURCE = 'def loads(text):\n    """Parse text."""\n'
FEW = {"addition": 8, "subtraction": 4, "brackets": 2, "strings": 2, "library": 2}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = b"".join(to_line(Document(SOURCE, 0, f"module{i}.py")) for i in range(4))
    (tmp_path / "data" / "documents").mkdir(parents=True)
    (tmp_path / "data" / "documents" / "train-00000.jsonl.zst").write_bytes(zstandard.compress(lines))
    (tmp_path / "data" / "counts.json").write_text('{"total": {"train_documents": 4}}')
    return tmp_path / "data"


@pytest.fixture
def base(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    config = ModelConfig(
        architecture="qwen3", vocab_size=tokenizer.vocab_size, hidden_size=64, num_layers=1, num_heads=2,
        num_kv_heads=1, head_dim=32, intermediate_size=64, max_position=128,
    )  # fmt: skip
    model = Transformer(config)
    model.initialize(0)
    folder = tmp_path / "base"
    folder.mkdir()
    tokenizer.save(folder)
    save_model(model, folder)
    return folder


def settings(**changes) -> SftSettings:
    values = {"generated": FEW, "sequence_length": 128, "batch_tokens": 256, "compile": False, "precision": "fp32"}
    rates = {"embedding_lr": 0.003, "head_lr": 0.003, "scalar_lr": 0.0001}
    return SftSettings(**{**values, **rates, **changes})


def test_every_environment_is_gathered_in_the_number_asked_for(tmp_path, data):
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    conversations = list(gather(settings(conversations=(own,)), data, seed=0))
    assert len(conversations) == 1 + 8 + 4 + 2 + 2 + 2
    assert conversations[0][1]["content"] == "b"
    assert all("module" in str(each) for each in conversations[-2:])
    assert conversations == list(gather(settings(conversations=(own,)), data, seed=0))
    turned = dict(reversed(FEW.items()))  # the order of a table's keys means nothing
    assert conversations == list(gather(settings(conversations=(own,), generated=turned), data, seed=0))


def test_the_folder_opens_with_transformers_and_answers_like_ours(tmp_path, tokenizer, base, data):
    output = tmp_path / "sft"
    fine_tune(settings(epochs=1), base, data, output, seed=0)
    theirs = AutoTokenizer.from_pretrained(output)
    messages = [{"role": "user", "content": "What is 1 + 1?"}]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == encode_prompt(tokenizer, messages)
    assert (output / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    assert json.loads((output / "generation_config.json").read_text()) == {
        "eos_token_id": [tokenizer.end_of_turn, tokenizer.end_of_document], "pad_token_id": tokenizer.end_of_document,
        "do_sample": True, "temperature": 0.6, "top_p": 0.95,
    }  # fmt: skip
    counts = json.loads((output / "conversations.json").read_text())
    assert counts["conversations"] + counts["too_long_left_out"] == 18
    assert counts["generated"] == FEW
    assert trained_on(output) == list(FEW)
    assert trained_on(base) == []
    before, after = load_model(base).state_dict(), load_model(output).state_dict()
    assert not torch.equal(before["embed_tokens.weight"], after["embed_tokens.weight"])


def test_greedy_decoding_is_said_so_that_transformers_does_not_warn(tmp_path):
    said = {"eos_token_id": [1], "do_sample": True, "temperature": 0.6, "top_p": 0.95}
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    write_sampling_defaults(tmp_path, SamplingDefaults(temperature=0))
    config = json.loads((tmp_path / "generation_config.json").read_text())
    assert config["do_sample"] is False
    assert not {"temperature", "top_p"} & set(config)
    assert config["eos_token_id"] == [1]  # what is not of sampling stays


def test_the_loss_falls(tmp_path, base, data):
    output = tmp_path / "sft"
    fine_tune(settings(epochs=40, log_every=1), base, data, output, seed=0)
    losses = [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"generated": {}}, "no conversations to fine-tune on"),
        ({"generated": {"addition": 0}}, "no conversations to fine-tune on"),
        ({"batch_tokens": 64}, "batch_tokens = 64 is not a multiple"),
        ({"sequence_length": 256}, "more than the base model's context of 128"),
        ({"sequence_length": 8}, "none of 18 conversations fits"),
    ],
)
def test_settings_that_cannot_work_are_sentences(tmp_path, base, data, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        fine_tune(settings(**changes), base, data, tmp_path / "sft", seed=0)
