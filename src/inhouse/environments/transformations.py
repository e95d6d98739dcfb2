"""Several small changes to a made-up word, one after another; the level is how many. Each step spells the word anew."""

import random
from collections.abc import Callable

from inhouse.environments.environment import Dial, Problem, worked_problem

_TEMPLATES = (
    "Take the word {word}. Do this in order: {changes}. What is the result?",
    "Start with {word}; {changes}. What do you get?",
)
_CHANGES: dict[str, Callable[[str], str]] = {
    "reverse it": lambda word: word[::-1],
    "sort its letters": lambda word: "".join(sorted(word)),
    "move the first letter to the end": lambda word: word[1:] + word[0],
    "move the last letter to the front": lambda word: word[-1] + word[:-1],
    "swap the first and the last letter": lambda word: word[-1] + word[1:-1] + word[0],
    "double the last letter": lambda word: word + word[-1],
    "drop the first letter": lambda word: word[1:],
    "write the first letter as a capital": lambda word: word[0].upper() + word[1:],
    "replace every a by o": lambda word: word.replace("a", "o"),
    "replace every e by i": lambda word: word.replace("e", "i"),
}


def _transformation(rng: random.Random, level: int) -> tuple[str, Problem]:
    """The word has a syllable for each change, so that none of it is used up."""
    syllables = ["".join((rng.choice("bcdfghjklmnprstvwz"), rng.choice("aeiou"))) for _ in range(max(3, level))]
    word = "".join(syllables)
    changes = rng.sample(tuple(_CHANGES), level)
    steps, result = [f"{word}: {' '.join(word)}"], word
    for change in changes:
        result = _CHANGES[change](result)
        steps.append(f"{change}: {' '.join(result)}")
    prompt = rng.choice(_TEMPLATES).format(word=word, changes=", then ".join(changes))
    return word, worked_problem(prompt, steps, result)


TRANSFORMATIONS = Dial("transformations", 6, _transformation)
