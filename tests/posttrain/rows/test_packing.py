"""Packing that loses nothing and leaks nothing between the conversations of a row."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.model.attention import CausalAttention
from inhouse.model.config import ModelConfig
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import Encoded, encode_conversation
from inhouse.posttrain.rows.encoded import ConversationWriter, lay
from inhouse.posttrain.rows.packing import PackedConversations, filled_batch

FILLER = 0


def conversation(start: int, length: int) -> Encoded:
    """Distinct ids from `start`; the second half is the assistant's."""
    return Encoded(list(range(start, start + length)), [place >= length // 2 for place in range(length)])


def pack(
    conversations: list[Encoded], seed: int = 0, length: int = 16, rows: int = 2, repeats: list[int] | None = None
) -> PackedConversations:
    with TemporaryDirectory() as folder:  # what is open stays readable
        writer = ConversationWriter(Path(folder), 50_000)
        writer.add(lay(conversations, writer.dtype))
        writer.finish()
        counts = None if repeats is None else np.array(repeats)
        packed = PackedConversations(Path(folder), seed, length, FILLER, counts)
    packed.sequences_per_step = rows
    return packed


lengths = st.lists(st.integers(2, 17), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(lengths)
def test_an_epoch_holds_every_trained_token_once(lengths):
    conversations = [conversation(100 * number, length) for number, length in enumerate(lengths, 1)]
    packed = pack(conversations, rows=1)
    targets = torch.cat([packed.batch(step).targets_BT.flatten() for step in range(packed.num_rows)])
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
        for ours, theirs in zip(one.batch(step)[:4], same.batch(step)[:4], strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(one.batch(0).tokens_BT, other.batch(0).tokens_BT)
    epoch = one.num_rows // 2
    assert not torch.equal(one.batch(0).tokens_BT, one.batch(epoch).tokens_BT)


def test_rows_are_filled_well():
    conversations = [conversation(100 * number, 2 + number % 9) for number in range(1, 400)]
    packed = pack(conversations, length=64)
    assert packed.num_rows * 64 < 1.1 * sum(len(each.ids) for each in conversations)


def test_a_handful_of_conversations_has_a_row_each() -> None:
    assert pack([conversation(100 * number, 5) for number in range(1, 6)], length=64).num_rows == 5
    assert pack([conversation(100 * number, 5) for number in range(1, 41)], length=512).num_rows >= 8


def test_a_weight_is_how_often_an_epoch_has_a_conversation() -> None:
    conversations = [conversation(100 * number, 6) for number in range(1, 5)]
    packed = pack(conversations, rows=1, repeats=[3, 1, 0, 2])
    tokens = torch.cat([packed.batch(step).tokens_BT.flatten() for step in range(packed.num_rows)]).tolist()
    assert [tokens.count(start) for start in (100, 200, 300, 400)] == [3, 1, 0, 2]


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
    def logits(questions: list[str]) -> dict[tuple[int, int], torch.Tensor]:
        """By row and conversation in it."""
        packed = pack([encoded(question) for question in questions], length=128, rows=1)
        found = {}
        for row in range(packed.num_rows):
            batch = packed.batch(row)
            out = model(batch.tokens_BT, batch.positions_BT, CausalAttention(batch.documents_BT))
            documents, all_logits = batch.documents_BT[0], model.logits(out.hidden_BTD)[0]
            found |= {
                (row, number): all_logits[documents == number] for number in documents.unique().tolist() if number
            }
        return found

    questions = [f"What is {number} + 1?" for number in range(1, 10)] * 4
    before = logits(questions)
    after = logits([*questions[:20], "What is 7 - 1?", *questions[21:]])
    assert before.keys() == after.keys()
    assert len(before) == 36 and max(number for _, number in before) > 1
    assert sum(not torch.equal(before[place], after[place]) for place in before) == 1


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 7), processes=st.integers(1, 9))
def test_a_step_is_dealt_to_any_number_of_processes(rows, processes):
    """All get as many rows; what is learnt is the step's, whoever has which."""
    packed = pack([conversation(100 * number, 9) for number in range(1, 30)], rows=rows)
    share = -(-rows // processes)
    parts = [filled_batch(packed, 3, range(share * rank, share * (rank + 1))) for rank in range(processes)]
    assert {part.tokens_BT.shape for part in parts} == {(share, 16)}
    whole = packed.batch(3)
    for mine, theirs in zip(zip(*(part[:4] for part in parts), strict=True), whole[:4], strict=True):
        assert torch.equal(torch.cat(mine)[:rows], theirs)
    targets = torch.cat([part.targets_BT for part in parts])
    assert bool((targets[rows:] == NOT_TRAINED).all())
