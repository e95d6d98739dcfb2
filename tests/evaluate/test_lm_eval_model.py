"""lm-eval's requests, answered on our engine: the same numbers as alone, in the requests' order."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inhouse.checkpoint.model_folder import save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.bits_per_byte import document_bits
from inhouse.model.transformer import Transformer

pytest.importorskip("lm_eval", reason="needs lm_eval, which comes with the bench extra")


def requests(*pairs: Any) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=pair) for pair in pairs]


@pytest.fixture
def lm(model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> Any:
    from inhouse.evaluate.lm_eval_model import InhouseLM

    tokenizer.save(tmp_path)
    save_model(copy.deepcopy(model), tmp_path)
    return InhouseLM(str(tmp_path))


def test_requests_of_one_context_give_what_each_alone_gives(lm: Any) -> None:
    pairs = [("import", " json"), ("", "return"), ("import", " re"), ("parser = ", "None"), ("import", " json")]
    together = lm.loglikelihood(requests(*pairs), disable_tqdm=True)
    alone = [lm.loglikelihood(requests(pair), disable_tqdm=True)[0] for pair in pairs]
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], abs=1e-4)
    assert together[0] == together[4]


def test_a_whole_text_is_read_as_a_document(lm: Any) -> None:
    (value,) = lm.loglikelihood_rolling(requests(("import argparse\n",)))
    (bits,) = document_bits(lm.opened.model, lm.opened.tokenizer, ["import argparse\n"], lm.max_length)
    assert -value / math.log(2) == pytest.approx(bits, rel=1e-4)


def test_how_answers_are_drawn_is_read_under_lm_evals_names(lm: Any) -> None:
    greedy = lm._params({"until": "", "max_new_tokens": 9, "top_p": 0.5, "do_sample": False, "temperature": 0.7})
    assert (greedy.max_tokens, greedy.temperature, greedy.top_p, greedy.stop) == (9, 0.0, 1.0, ())
    drawn = lm._params({"until": ["a", ""], "temperature": 0.7, "top_p": 0.5, "top_k": 3})
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.stop) == (0.7, 0.5, 3, ("a",))
    assert lm._params({"do_sample": True}).temperature == 1.0


def test_answers_end_before_what_ends_them(lm: Any) -> None:
    given = {"until": ["e"], "max_gen_toks": 20, "do_sample": False}
    replies = lm.generate_until(requests(("import", given), ("def " * 400, given)))
    assert len(replies) == 2 and not any("e" in reply for reply in replies)
