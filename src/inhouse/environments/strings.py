"""A small task on a made-up word, which the steps spell first: a model sees pieces of words, not letters."""

import random

from inhouse.environments.environment import Problem, generated, worked_problem

_TEMPLATES = {  # by task
    "reverse": ("Reverse the word {word}.", "Write {word} backwards."),
    "count": ("How often does the letter {letter} occur in {word}?", "Count the letter {letter} in {word}."),
    "upper": ("Write {word} in capital letters.", "Turn {word} into upper case."),
    "first": ("What is the first letter of {word}?", "Which letter does {word} begin with?"),
    "last": ("What is the last letter of {word}?", "Which letter does {word} end with?"),
    "sort": ("Sort the letters of {word}.", "Put the letters of {word} in alphabetical order."),
}


def _strings(rng: random.Random) -> tuple[str, Problem]:
    syllables = ("".join((rng.choice("bcdfghjklmnprstvwz"), rng.choice("aeiou"))) for _ in range(rng.randint(1, 3)))
    word = "".join(syllables) + rng.choice(("", rng.choice("lmnrst")))
    task = rng.choice(tuple(_TEMPLATES))
    letter = rng.choice(word)
    steps, answer = _solve(task, word, letter)
    prompt = rng.choice(_TEMPLATES[task]).format(word=word, letter=letter)
    return word, worked_problem(prompt, [f"{word}: {' '.join(word)}", *steps], answer)


def _solve(task: str, word: str, letter: str) -> tuple[list[str], str]:
    """The steps behind the spelled word, and the answer."""
    if task == "count":
        running = [f"{each}{word[:end].count(letter)}" for end, each in enumerate(word, 1)]
        return [" ".join(running)], str(word.count(letter))
    if task in ("first", "last"):
        return [], word[0 if task == "first" else -1]
    answer = {"reverse": word[::-1], "upper": word.upper(), "sort": "".join(sorted(word))}[task]
    return [" ".join(answer)], answer


STRINGS = generated("strings", _strings)
