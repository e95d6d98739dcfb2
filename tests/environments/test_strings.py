"""Tasks on words, each answered a second time from its prompt."""

import re

from inhouse.environments.strings import STRINGS

CHECKS = {
    r"Reverse the word (\w+)|Write (\w+) backwards": lambda word: word[::-1],
    r"Write (\w+) in capital|Turn (\w+) into": str.upper,
    r"first letter of (\w+)|does (\w+) begin": lambda word: word[0],
    r"last letter of (\w+)|does (\w+) end": lambda word: word[-1],
    r"letters of (\w+)\.|letters of (\w+) in alphabetical": lambda word: "".join(sorted(word)),
}
COUNTING = r"letter (\w) occur in (\w+)|letter (\w) in (\w+)"


def test_answers_are_right_and_every_word_is_spelled_first():
    seen = set()
    for problem in STRINGS.draw("train", 400, 0, None):
        if match := re.search(COUNTING, problem.prompt):
            letter, word = filter(None, match.groups())
            assert problem.answer == str(word.count(letter))
            assert problem.worked.split("\n")[1].split()[-1] == f"{word[-1]}{problem.answer}"
            seen.add(COUNTING)
        else:
            (regex, match), *others = [(regex, m) for regex in CHECKS if (m := re.search(regex, problem.prompt))]
            assert not others
            word = next(filter(None, match.groups()))
            assert problem.answer == CHECKS[regex](word)
            seen.add(regex)
        assert problem.worked.startswith(f"{word}: {' '.join(word)}\n")
    assert seen == {COUNTING, *CHECKS}
