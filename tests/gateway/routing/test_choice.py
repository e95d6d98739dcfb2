"""Who is picked: utility, the rule for one's own models, and when nobody can say."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.routing_parts import target

from inhouse.gateway.routing.choice import Option, choose, utilities
from inhouse.gateway.routing.evidence import share_of
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.types import NANO, Estimate

SETTINGS = RoutingSettings(margin=0.02, per_cost=1.0, per_second=0.001)


def option(
    model: str, quality: Estimate | None, *, own: bool = False, cost: float = 0.0, latency: float | None = None
) -> Option:
    return Option(target(model), own, quality, round(cost * NANO), latency)


def known(mean: float, half: float = 0.01, n: int = 500) -> Estimate:
    return Estimate(mean, mean - half, mean + half, n)


def test_the_best_answers_until_it_costs_more_than_it_is_better() -> None:
    good, cheap = option("good", known(0.8), cost=0.05), option("cheap", known(0.7))
    assert choose([cheap, good], SETTINGS, "cheap").order == (good.target, cheap.target)
    dear = good._replace(cost=NANO // 5)
    chosen = choose([dear, cheap], SETTINGS, "cheap")
    assert chosen.order == (cheap.target, good.target) and not chosen.has_declined


def test_time_costs_quality_and_who_was_never_timed_is_as_slow_as_the_median() -> None:
    options = [option("a", known(0.8), latency=10.0), option("b", known(0.8), latency=2.0), option("c", known(0.8))]
    a, b, c = utilities(options, SETTINGS)
    assert a is not None and b is not None and c is not None
    assert b > c > a and abs(c - (0.8 - 0.006)) < 1e-9


def test_ones_own_model_wins_by_its_lower_bound_and_the_margin() -> None:
    """At exactly the best other's estimate less the margin it answers; below that the utility decides."""
    theirs = option("theirs", known(0.80))
    own = option("own", Estimate(0.81, 0.78, 0.84, 500), own=True, cost=0.5)
    chosen = choose([theirs, own], SETTINGS, "theirs")
    assert chosen.order[0] == own.target and "in-house" in chosen.reason and "0.780" in chosen.reason
    unsure = own._replace(quality=Estimate(0.81, 0.7799, 0.84, 400))
    assert choose([theirs, unsure], SETTINGS, "theirs").order[0] == theirs.target
    assert choose([theirs, unsure._replace(cost=0)], SETTINGS, "theirs").order[0] == own.target


def test_the_default_answers_where_fewer_than_two_models_are_known() -> None:
    a, b = option("a", None, cost=0.1), option("b", known(0.9))
    chosen = choose([b, a], SETTINGS, "a")
    assert chosen.order == (a.target, b.target) and chosen.has_declined and "only b" in chosen.reason
    without = choose([b, option("c", None)], SETTINGS, "a")
    assert without.has_declined and without.order[0] == b.target and "the default a cannot" in without.reason
    same = option("b", known(0.9))._replace(target=target("b", "elsewhere"))
    assert choose([a, b, same], SETTINGS, "a").has_declined  # one model at two providers is nothing to compare


def test_the_only_one_who_can_answer_does() -> None:
    chosen = choose([option("a", None)], SETTINGS, "b")
    assert chosen.order == (target("a"),) and not chosen.has_declined


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.booleans(), st.integers(0, 10**8), st.floats(0, 100)), min_size=2, max_size=8
    ),
    st.randoms(use_true_random=False),
)
def test_everybody_stands_in_the_order_once_whatever_the_order_of_asking(
    drawn: list[tuple[int, bool, int, float]], random: object
) -> None:
    options = [
        Option(target(f"m{number}"), own, share_of(right, 60) if right else None, cost, latency)
        for number, (right, own, cost, latency) in enumerate(drawn)
    ]
    chosen = choose(options, SETTINGS, "m0")
    assert sorted(chosen.order) == sorted(each.target for each in options)
    shuffled = options[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, SETTINGS, "m0") == chosen
