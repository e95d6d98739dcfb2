"""pass@k against counting all choices of k answers."""

import itertools

import pytest

from inhouse.evaluate.pass_at_k import pass_at_k, pass_scores


def test_it_is_the_share_of_choices_of_k_answers_with_a_right_one():
    for count in range(1, 7):
        for num_right in range(count + 1):
            answers = [place < num_right for place in range(count)]
            for k in range(1, count + 1):
                choices = [any(each) for each in itertools.combinations(answers, k)]
                assert pass_at_k(count, num_right, k) == pytest.approx(sum(choices) / len(choices))


@pytest.mark.parametrize(("answers", "right", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (0, 0, 1)])
def test_what_cannot_be_is_refused(answers, right, k):
    with pytest.raises(ValueError, match="answers"):
        pass_at_k(answers, right, k)


def test_the_error_is_over_problems():
    scores = pass_scores([[True, False], [False, False], [True, True]], [1, 2], "greedily")
    assert scores["pass@1"].value == pytest.approx(0.5)
    assert scores["pass@2"].value == pytest.approx(2 / 3)
    assert scores["pass@2"].count == 3
    assert scores["pass@1"].standard_error == pytest.approx(0.5 / 3**0.5)
    assert scores["pass@2"].how == "greedily, 2 of 2 answers sampled"
