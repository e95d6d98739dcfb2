"""Packing that loses nothing and leaks nothing between the conversations of a row."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.model.attention import CausalAttention
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import Encoded, encode_conversation
from inhouse.posttrain.conversations import NOT_TRAINED, PackedConversations, trained_on

FILLER = 0


def conversation(start: int, length: int) -> Encoded:
    """Distinct ids from `start`; the second half is the assistant's."""
    return Encoded(list(range(start, start + length)), [place >= length // 2 for place in range(length)])


def pack(conversations: list[Encoded], seed: int = 0, length: int = 16, rows: int = 2) -> PackedConversations:
    return PackedConversations(conversations, seed, length, rows, FILLER)


lengths = st.lists(st.integers(2, 16), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_an_epoch_holds_every_trained_token_once(lengths):
    conversations = [conversation(100 * number, length) for number, length in enumerate(lengths, 1)]
    packed = pack(conversations, rows=1)
    targets = torch.cat([packed.batch(step).targets_BT.flatten() for step in range(int(packed.steps_per_epoch))])
    expected = [token for each in conversations for token, flag in zip(*each, strict=True) if flag]
    assert sorted(targets[targets != NOT_TRAINED].tolist()) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_targets_follow_tokens_and_positions_restart_in_every_conversation(lengths):
    packed = pack([conversation(100 * number, length) for number, length in enumerate(lengths, 1)])
    batch = packed.batch(0)
    is_trained = batch.targets_BT != NOT_TRAINED
    assert torch.equal(batch.targets_BT[is_trained], batch.tokens_BT[is_trained] + 1)
    is_filler = batch.documents_BT == 0
    assert (batch.tokens_BT[is_filler] == FILLER).all()
    assert not is_trained[is_filler].any()
    assert torch.equal(batch.positions_BT[~is_filler], batch.tokens_BT[~is_filler] % 100)


def test_batches_are_a_function_of_seed_and_step():
    conversations = [conversation(100 * number, 5 + number % 7) for number in range(1, 60)]
    one, same, other = pack(conversations), pack(conversations), pack(conversations, seed=1)
    for step in (31, 0, 7):
        for ours, theirs in zip(one.batch(step), same.batch(step), strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(one.batch(0).tokens_BT, other.batch(0).tokens_BT)
    epoch = int(one.steps_per_epoch)
    assert not torch.equal(one.batch(0).tokens_BT, one.batch(epoch).tokens_BT)


def test_rows_are_filled_well():
    conversations = [conversation(100 * number, 2 + number % 9) for number in range(1, 400)]
    packed = pack(conversations, length=64)
    assert packed.steps_per_epoch * 2 * 64 < 1.1 * sum(len(each.ids) for each in conversations)


def test_too_long_conversations_are_left_out_and_counted():
    packed = pack([conversation(100, 17), conversation(200, 18), conversation(300, 40)])
    assert packed.num_too_long == 2  # 17 tokens are 16 inputs and a last target
    with pytest.raises(ValueError, match="none of 1 conversations fits into sequence_length = 16"):
        pack([conversation(300, 40)])


def test_conversations_of_a_row_do_not_see_one_another(tokenizer):
    config = ModelConfig(
        architecture="qwen3", vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=16, intermediate_size=32, max_position=128,
    )  # fmt: skip
    model = Transformer(config)
    model.initialize(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    def encoded(question: str) -> Encoded:
        return encode_conversation(
            tokenizer, [{"role": "user", "content": question}, {"role": "assistant", "content": "Answer: 3"}]
        )

    @torch.no_grad()
    def logits(questions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = pack([encoded(question) for question in questions], length=128, rows=1).batch(0)
        out = model(batch.tokens_BT, batch.positions_BT, CausalAttention(batch.documents_BT))
        return model.logits(out.hidden_BTD)[0], batch.documents_BT[0]

    before, documents = logits(["What is 1 + 2?", "What is 2 + 1?", "What is 3 - 0?"])
    after, after_documents = logits(["What is 1 + 2?", "What is 9 + 7?", "What is 3 - 0?"])
    assert torch.equal(documents, after_documents)
    assert documents.unique().tolist() == [0, 1, 2, 3]
    changed = {
        number for number in (1, 2, 3) if not torch.equal(before[documents == number], after[documents == number])
    }
    assert len(changed) == 1


def test_a_folder_says_which_environments_it_was_trained_on(tmp_path):
    assert trained_on(tmp_path) == []
    (tmp_path / "conversations.json").write_text('{"conversations": 3}')  # written before it said so
    assert trained_on(tmp_path) == []
    (tmp_path / "conversations.json").write_text('{"generated": {"strings": 2, "brackets": 0, "library": 1}}')
    assert trained_on(tmp_path) == ["strings", "library"]
    (tmp_path / "conversations.json").write_text('{"generated": {"chess": 2}}')
    with pytest.raises(ValueError, match='there is no environment "chess"'):
        trained_on(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("stage.json", {"settings": {"sft": {"generated": {"addition": 5, "strings": 0}}}}),
        ("lineage.json", {"stages": {"sft": {"settings": {"sft": {"generated": {"addition": 5}}}}}}),
    ],
)
def test_a_stage_of_before_and_an_exported_folder_say_it_too(tmp_path, file, content):
    (tmp_path / "conversations.json").write_text('{"conversations": 3, "steps": 4}')
    (tmp_path / file).write_text(json.dumps(content))
    assert trained_on(tmp_path) == ["addition"]
