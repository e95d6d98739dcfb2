"""Which problems a sampling asks: a pure function of its number."""

import random
from collections.abc import Iterator, Mapping

from inhouse.environments.registry import environment_of
from inhouse.rl.sampling import Asked

_LARGEST_SEED = 2**31


def problems(environments: Mapping[str, float], seed: int, number: int, count: int) -> Iterator[Asked]:
    """At most `count` training problems of sampling `number`, of each environment about as many as its weight says.

    An environment that has no more problems is left out from there on. Raises `ValueError` where none has any.
    """
    chance = random.Random(f"{seed}/problems/{number}")
    known = {name: environment_of(name) for name in environments}
    drawn = {
        name: iter(environment.draw("train", count, chance.randrange(_LARGEST_SEED), None))
        for name, environment in known.items()
    }
    num_drawn = 0
    while drawn and num_drawn < count:
        names = list(drawn)
        (name,) = chance.choices(names, [environments[each] for each in names])
        problem = next(drawn[name], None)
        if problem is None:
            del drawn[name]
            continue
        yield Asked(known[name], problem)
        num_drawn += 1
    if not num_drawn:
        raise ValueError(f"[rl] environments: {', '.join(environments)} have no problem to learn from")
