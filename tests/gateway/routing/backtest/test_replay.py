"""Logged decisions under other weights."""

from tests.gateway.routing_parts import CALLER, Says, chat, evidence, offer

from inhouse.gateway.routing.backtest.replay import as_logged, replayed
from inhouse.gateway.routing.router import Router
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.types import NANO

OFFERS = (offer("good", price=50.0), offer("fair", price=1.0))
TABLE = evidence({"good": (0.8, 500), "fair": (0.75, 500)})


def test_other_weights_move_what_was_logged() -> None:
    settings = RoutingSettings(per_second=0.0)
    router = Router(OFFERS, TABLE, Says(), settings, "fair")  # type: ignore[arg-type]
    decisions = [router.decide(chat("x" * 400), "auto", CALLER, str(n), None, 0.0) for n in range(4)]
    logged = as_logged(decisions)
    assert logged.shares == {"good": 1.0} and logged.quality == 0.8 and logged.decisions == logged.known == 4
    assert replayed(decisions, settings, "fair", ()) == logged
    cheap = replayed(decisions, settings.model_copy(update={"per_cost": 10.0}), "fair", ())
    assert cheap.shares == {"fair": 1.0} and cheap.cost < logged.cost and cheap.quality == 0.75
    own = replayed(decisions, settings.model_copy(update={"margin": 0.2}), "fair", {"of-fair"})
    assert own.shares == {"fair": 1.0}
    assert f"{logged.cost / NANO:.6f} USD" in logged.line("as logged", "USD")
