"""What answers are worth: unfinished and unparsable ones are wrong and counted, and nothing is asked twice."""

from types import SimpleNamespace

from inhouse.evaluate.harness import answer, heldout_problems, summarise
from inhouse.posttrain.chat_template import encode_prompt


class Oracle:
    """Stands for the engine: gives each prompt the reply that a table holds for it, a few in every step."""

    def __init__(self, tokenizer, replies: dict[str, tuple[str, str]]) -> None:
        self.replies = {
            tuple(encode_prompt(tokenizer, [{"role": "user", "content": prompt}])): reply
            for prompt, reply in replies.items()
        }
        self.waiting: list[SimpleNamespace] = []

    def add(self, prompt, params) -> int:
        assert params.temperature == 0
        text, reason = self.replies[tuple(prompt)]
        identity = len(self.waiting)
        completion = SimpleNamespace(text=text, finish_reason=reason)
        self.waiting.append(SimpleNamespace(id=identity, completion=completion))
        return identity

    def step(self) -> list[SimpleNamespace]:
        unfinished = SimpleNamespace(id=0, completion=None)
        done, self.waiting = self.waiting[-3:], self.waiting[:-3]
        return [unfinished, *done]


def test_scores_of_right_wrong_unparsable_and_unfinished_answers(tokenizer):
    questions = heldout_problems(per_kind=10, seed=0)
    assert len({question.messages[0]["content"] for question in questions}) == len(questions) == 40
    replies = {question.messages[0]["content"]: (question.problem.worked, "stop") for question in questions}
    first, second, third = (question.messages[0]["content"] for question in questions[:3])
    replies[first] = ("Answer: 1000", "stop")
    replies[second] = ("I do not know.", "stop")
    replies[third] = (replies[third][0], "length")  # right, but it would have gone on
    samples = answer(Oracle(tokenizer, replies), tokenizer, questions, max_tokens=50)
    scores = summarise(samples)
    assert scores["exact_match/addition"].value == 0.7
    assert scores["exact_match/strings"].value == 1.0
    assert scores["unparsable"].value == 1 / 40
    assert scores["ends_by_itself"].value == 39 / 40
    assert samples[0].is_parsed and not samples[0].is_right
    assert all(score.standard_error is not None and score.count and score.how for score in scores.values())


def test_no_answers_no_scores():
    assert summarise([]) == {}
