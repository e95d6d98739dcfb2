"""Ten rows of each shape of file, as its makers write them."""

import json
from pathlib import Path

import numpy as np
import pytest

from inhouse.gateway.routing.backtest.outcomes import Scored, outcomes_of, read_outcomes
from inhouse.providers.prices import Price

ROUTELLM = """prompt,mixtral-8x7b-instruct-v0.1,gpt-4-1106-preview
"Find the degree for the given field extension Q(sqrt(2)) over Q.
A. 0
B. 4
C. 2
D. 6
Answer:",True,True
"Let p = (1, 2) in S_5. Find the index of <p> in S_5.
A. 8
B. 2
C. 24
D. 60
Answer:",False,False
What is 2 in Z_2?,False,True
"The ""unit"" of Z is",True,True
Is Z_4 a field?,False,True
Is Z_5 a field?,True,True
How many units has Z_8?,False,True
How many ideals has Q?,False,False
Is 0 a unit?,True,False
Is every field a ring?,True,True
"""
ANSWERED = "mixtral-8x7b-instruct-v0.1_response,gpt-4-1106-preview_response"


def test_routellm_has_a_column_a_model_and_the_files_name_tells_the_task(tmp_path: Path) -> None:
    file = tmp_path / "mmlu_abstract_algebra.csv"
    file.write_text(ROUTELLM)
    found = read_outcomes([file])
    assert found.models == ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    assert len(found.questions) == 10 and set(found.tasks) == {"mmlu_abstract_algebra"}
    assert found.score_QM.sum(0).tolist() == [7.0, 5.0]
    assert np.isnan(found.cost_QM).all()  # nobody says what they cost
    priced = read_outcomes(
        [file], (Price(model="gpt-4*", input=10.0, output=30.0), Price(model="*", input=1, output=2))
    )
    assert priced.cost_QM[2].tolist() == pytest.approx([(17 // 4 + 1) * 10e-6 + 30e-6, (17 // 4 + 1) * 1e-6 + 2e-6])

    answered = tmp_path / "gsm8k_responses.csv"
    lines = "".join(f'"How many, {n}?",True,False,"It is, say, {n}.","So ""{n}""."\n' for n in range(10))
    answered.write_text(f"{ROUTELLM.splitlines()[0]},{ANSWERED}\n{lines}")
    both = read_outcomes([file, answered])
    assert len(both.questions) == 20 and both.tasks[-1] == "gsm8k" and both.models == found.models


def llmrouter() -> list[dict[str, object]]:
    return [
        {
            "task_name": "gsm8k" if number < 3 else "mmlu", "query": f"What is {number} + {number}?",
            "ground_truth": str(2 * number), "metric": "GSM8K", "choices": None, "task_id": None,
            "model_name": model, "response": "It is so.", "token_num": 453, "input_tokens": 400, "output_tokens": 53,
            "response_time": 1.7864494324, "api_key_used": "", "performance": 1.0 if number % 2 else share,
            "embedding_id": number, "user_id": None, "fig_id": None,
        }
        for number in range(5)
        for model, share in (("llama3-chatqa-1.5-8b", 0.0), ("qwen2.5-7b-instruct", 0.5))
    ]  # fmt: skip


def test_llmrouter_has_a_line_a_question_and_model(tmp_path: Path) -> None:
    file = tmp_path / "default_routing_test_data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in llmrouter()))
    prices = (Price(model="llama3*", input=0.2, output=0.2), Price(model="qwen*", input=1.0, output=2.0))
    found = read_outcomes([file], prices)
    assert found.models == ("llama3-chatqa-1.5-8b", "qwen2.5-7b-instruct") and len(found.questions) == 5
    assert found.tasks == ("gsm8k",) * 3 + ("mmlu",) * 2
    assert found.score_QM.mean(0).tolist() == pytest.approx([0.4, 0.7])
    assert found.cost_QM[0].tolist() == pytest.approx([453 * 0.2e-6, (400 + 2 * 53) * 1e-6])
    assert np.isnan(read_outcomes([file]).cost_QM).all()


def routerarena(model: str, right: float) -> list[dict[str, object]]:
    return [
        {
            "global_index": f"{'AIME' if number < 4 else 'ArcMMLU'}_{number}", "question": f"Question {number}",
            "llm_selected": model, "generated_answer": "\\boxed{42}",
            "token_usage": {"input_tokens": 349, "output_tokens": 120, "total_tokens": 469}, "success": True,
            "provider": "anthropic", "error": None,
            "evaluation_result": {
                "extracted_answer": "\\boxed{42}", "ground_truth": "610", "score": float(number < right),
                "metric": "math_metric", "inference_cost": 0.00023725,
            },
        }
        for number in range(10)
    ]  # fmt: skip


def test_routerarena_has_a_file_a_model_and_questions_that_not_all_answered_are_left_out(tmp_path: Path) -> None:
    one, two = tmp_path / "claude-3-haiku-20240307.jsonl", tmp_path / "gemini-2.0-flash-001.jsonl"
    one.write_text("".join(json.dumps(row) + "\n" for row in routerarena("claude-3-haiku-20240307", 3)))
    two.write_text("".join(json.dumps(row) + "\n" for row in routerarena("gemini-2.0-flash-001", 6)[:-1]))
    found = read_outcomes([one, two])
    assert found.left_out == 1 and len(found.questions) == 9
    assert found.tasks == ("AIME",) * 4 + ("ArcMMLU",) * 5
    assert found.score_QM.sum(0).tolist() == [3.0, 6.0] and found.cost_QM.mean() == pytest.approx(0.00023725)


def test_results_of_this_projects_own_evaluations_are_outcomes(tmp_path: Path) -> None:
    for model, score in (("ours", 1.0), ("theirs", 0.25)):
        folder = tmp_path / model
        folder.mkdir()
        (folder / "about.json").write_text(json.dumps({"model": model, "date": "2026-11-30"}))
        rows = [
            {
                "task": "product/code", "item": f"hash-{number}", "number": 0, "cluster": None, "prompt": "p",
                "prompt_hash": "h", "gold": None, "output": "o", "metrics": {"score": score, "exact": 0.0},
                "choices": [], "seconds": 1.0, "tokens_in": 1, "tokens_out": 1, "cost": 0.5,
            }
            for number in range(10)
        ]  # fmt: skip
        (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_outcomes([tmp_path / "ours", tmp_path / "theirs"])
    assert found.score_QM.mean(0).tolist() == [1.0, 0.25] and found.cost_QM.mean() == 0.5


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "question,model\nx,True\n", "needs the column prompt"),
        ("a.csv", "prompt,model,other\nx,True,perhaps\n", "line 2: other is neither"),
        ("a.jsonl", "{}\n", "line 1: not an outcome"),
        ("a.jsonl", "\nno\n", "line 2: not an outcome"),
        ("a.jsonl", json.dumps(llmrouter()[0] | {"performance": 7}), "line 1: not an outcome"),
        ("a.jsonl", json.dumps(llmrouter()[0]), "there are 1 models, 1 questions"),
    ],
)
def test_what_is_no_file_of_outcomes_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_outcomes([tmp_path / name])


def test_nobody_answered_the_same() -> None:
    with pytest.raises(ValueError, match="0 of these with all answers"):
        outcomes_of([Scored("t", "a", "m", 1.0, None), Scored("t", "b", "n", 1.0, None)])
