"""Fine-tuning end to end on a tiny model: what it learns from, and a folder that others can open."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import zstandard
from safetensors import safe_open
from safetensors.torch import load_file
from tests.tiny_models import before_each_step
from transformers import AutoTokenizer

from inhouse.checkpoint.dcp_safetensors import INDEX
from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.data.documents import Document, to_line
from inhouse.data.shards import ShardWriter, finish_folder
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_conversation, encode_prompt
from inhouse.posttrain.conversations import trained_on
from inhouse.posttrain.lora.merged import merge_folder
from inhouse.posttrain.rows.encode import gather
from inhouse.posttrain.rows.too_long import fit
from inhouse.posttrain.settings import SamplingDefaults, SftSettings
from inhouse.posttrain.sft import fine_tune, write_sampling_defaults
from inhouse.train.loop import Trainer

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


@pytest.fixture
def shards(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A tokenizer stage's folder with 4,000 tokens to replay."""
    folder = tmp_path / "tokenizer" / "shards" / "train"
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, "part", "<u2", 10_000)
    writer.add(Document("", 0, "p"), [5 + number % 200 for number in range(4_000)], 0)
    writer.close()
    finish_folder(folder, writer.shards)
    return tmp_path / "tokenizer"


def settings(**changes) -> SftSettings:
    values = {"generated": FEW, "sequence_length": 128, "batch_tokens": 256, "compile": False, "precision": "fp32"}
    rates = {"embedding_lr": 0.003, "head_lr": 0.003, "scalar_lr": 0.0001}
    return SftSettings(**{**values, **rates, **changes})


def test_every_environment_is_gathered_in_the_number_asked_for(tmp_path, data):
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    conversations = list(gather(settings(conversations=(own,)), data, seed=0))
    assert len(conversations) == 1 + 8 + 4 + 2 + 2 + 2
    assert conversations[0].messages[1]["content"] == "b"
    assert all("module" in str(each) for each in conversations[-2:])
    assert conversations == list(gather(settings(conversations=(own,)), data, seed=0))
    turned = dict(reversed(FEW.items()))  # the order of a table's keys means nothing
    assert conversations == list(gather(settings(conversations=(own,), generated=turned), data, seed=0))


def test_the_folder_opens_with_transformers_and_answers_like_ours(tmp_path, tokenizer, base, data, shards):
    output = tmp_path / "sft"
    fine_tune(settings(epochs=1), base, data, shards, output, seed=0)
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
    assert counts["conversations"] + counts["too_long"] == 18
    assert not (output / "packed").exists()
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


def test_the_loss_falls(tmp_path, base, data, shards):
    output = tmp_path / "sft"
    fine_tune(settings(epochs=40, log_every=1), base, data, shards, output, seed=0)
    losses = [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 3


@pytest.fixture
def grown(base: Path) -> Path:
    """The base with a head whose logits say something: a fresh one's are all near zero, and adapters leave it alone."""
    model = load_model(base)
    with torch.no_grad():
        model.lm_head.weight *= 100
    save_model(model, base)
    return base


def with_adapters(**changes) -> SftSettings:
    return settings(lora={"rank": 8, "alpha": 16}, adapter_lr=0.02, replay=0.0, **changes)


def test_adapters_learn_and_the_folder_is_the_base_with_them_merged(tmp_path, grown, data, shards):
    output, again = tmp_path / "sft", tmp_path / "again"
    fine_tune(with_adapters(epochs=10, log_every=1), grown, data, shards, output, seed=0)
    losses = [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.5
    before, after = load_model(grown).state_dict(), load_model(output).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    merge_folder(output / "adapter", again)
    assert (again / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


def test_a_base_of_bf16_stays_of_bf16_beside_its_adapters(tmp_path, grown, data, shards):
    save_model(load_model(grown), grown, torch.bfloat16)
    output = tmp_path / "sft"
    fine_tune(with_adapters(epochs=1), grown, data, shards, output, seed=0)
    assert json.loads((output / "config.json").read_text())["dtype"] == "bfloat16"
    with safe_open(output / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert load_file(output / "adapter" / "adapter_model.safetensors").popitem()[1].dtype == torch.float32


def test_adapters_go_on_to_the_bit_from_a_checkpoint_without_the_base(tmp_path, grown, data, shards):
    few, whole, stopped = with_adapters(epochs=2, checkpoint_every=2), tmp_path / "whole", tmp_path / "stopped"
    fine_tune(few, grown, data, shards, whole, seed=0)

    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with before_each_step(stop), pytest.raises(KeyboardInterrupt):
        fine_tune(few, grown, data, shards, stopped, seed=0)
    (checkpoint,) = (stopped / "checkpoints").glob("step-*")
    assert not any("embed_tokens" in name for name in json.loads((checkpoint / INDEX).read_text()))
    fine_tune(few, grown, data, shards, stopped, seed=0)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lora": {"targets": ["experts"]}}, "targets = experts, and qwen3 is dense"),
        ({"generated": {}}, "no conversations to fine-tune on"),
        ({"generated": {"addition": 0}}, "no conversations to fine-tune on"),
        ({"batch_tokens": 64}, "batch_tokens = 64 is not a multiple"),
        ({"sequence_length": 256}, "more than the base model's context of 128"),
        ({"sequence_length": 8}, "none of 18 conversations fits"),
    ],
)
def test_settings_that_cannot_work_are_sentences(tmp_path, base, data, shards, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        fine_tune(settings(**changes), base, data, shards, tmp_path / "sft", seed=0)


def own_file(path: Path, count: int, words: int = 3) -> Path:
    lines = []
    for number in range(count):
        turns = [
            {"role": "user", "content": f"Say {number}"},
            {"role": "assistant", "content": f"word{number} " * words},
        ]
        lines.append(json.dumps({"messages": turns}))
    path.write_text("\n".join(lines))
    return path


def test_own_files_are_counted_weighed_and_a_share_is_held_out(tmp_path, base, data, shards):
    first, second = own_file(tmp_path / "a.jsonl", 60), own_file(tmp_path / "b.jsonl", 3, words=200)
    sources = [{"path": first, "licence": "CC0-1.0", "weight": 2.0}, second]
    output = tmp_path / "sft"
    fine_tune(settings(conversations=sources, generated={}, epochs=1, validate_every=1), base, data, shards, output, 0)
    counts = json.loads((output / "conversations.json").read_text())
    heldout = (output / "heldout.jsonl").read_text().splitlines()
    assert 0 < len(heldout) < 12
    assert counts["files"][0]["conversations"] == 60 - len(heldout)
    assert counts["files"][0]["trained_tokens"] > 0
    assert counts["files"][1] == {"conversations": 0, "too_long": 3, "trained_tokens": 0}
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert all(row["validation_loss"] > 0 for row in rows)


@pytest.mark.parametrize(("too_long", "pieces"), [("leave_out", 0), ("truncate", 1), ("split", 3)])
def test_what_is_too_long_is_left_out_cut_or_split_at_its_turns(tokenizer, too_long, pieces):
    encode = partial(encode_conversation, tokenizer)
    exchange = [{"role": "user", "content": "Tell me."}, {"role": "assistant", "content": "It is so. " * 3}]
    messages = [{"role": "system", "content": "Be brief."}, *exchange * 3]
    (whole, was_long) = fit(encode, messages, 1_000, too_long)
    assert (len(whole), was_long) == (1, False)
    room = len(encode_conversation(tokenizer, messages[:3]).ids) + 3
    found, was_long = fit(encode, messages, room, too_long)
    assert (len(found), was_long) == (pieces, True)
    for piece in found:
        assert piece.ids == encode_conversation(tokenizer, messages[:3]).ids
    cut, _ = fit(encode, messages[:3], room - 10, too_long)
    assert [len(piece.ids) for piece in cut] == ([] if too_long == "leave_out" else [room - 9])
    assert all(piece.ids[-1] != tokenizer.end_of_turn for piece in cut)


def test_few_conversations_make_small_steps_and_are_warned_about(tmp_path, base, data, shards, capfd):
    output = tmp_path / "sft"
    fine_tune(settings(conversations=[own_file(tmp_path / "a.jsonl", 5)], generated={}), base, data, shards, output, 0)
    counts = json.loads((output / "conversations.json").read_text())
    assert counts["steps"] >= 10
    assert counts["rows"] == {"conversations": 1, "replayed": 1}
    assert "steps are few" in capfd.readouterr().err
    taught = [json.loads(line)["messages"] for line in (output / "taught.jsonl").read_text().splitlines()]
    assert [messages[0]["content"] for messages in taught] == [f"Say {number}" for number in range(5)]
    assert not (output / "heldout.jsonl").exists()
    assert not (output / "packed").exists()


def test_what_was_taught_is_kept_as_it_was_and_nothing_that_was_left_out(tmp_path, base, data, shards, monkeypatch):
    """Files are not read again after hours of training, in which they may have gone."""
    long, short = own_file(tmp_path / "a.jsonl", 6, words=200), own_file(tmp_path / "b.jsonl", 9)
    sources = [long, {"path": short, "weight": 0.5}]
    monkeypatch.setattr(Trainer, "run", lambda trainer: [file.unlink() for file in (long, short)])
    output = tmp_path / "sft"
    output.mkdir()
    fine_tune(settings(conversations=sources, generated={}), base, data, shards, output, 0)
    taught = [json.loads(line)["messages"] for line in (output / "taught.jsonl").read_text().splitlines()]
    assert [messages[0]["content"] for messages in taught] == [f"Say {number}" for number in (0, 2, 4, 6, 8)]


def test_a_fine_tuning_without_own_conversations_keeps_none(tmp_path, base, data, shards):
    fine_tune(settings(epochs=1), base, data, shards, tmp_path / "sft", seed=0)
    assert not {path.name for path in (tmp_path / "sft").iterdir()} & {"taught.jsonl", "heldout.jsonl"}


def test_a_kill_while_the_encoded_conversations_go_leaves_none_that_look_whole(
    tmp_path, base, data, shards, monkeypatch
):
    output = tmp_path / "sft"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("shutil.rmtree", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        fine_tune(settings(epochs=1), base, data, shards, output, seed=0)
    (output / "packed" / "train" / "ids.bin").unlink()  # some are gone, and others lie there still
    fine_tune(settings(epochs=1), base, data, shards, output, seed=0)
    assert not (output / "packed").exists()
