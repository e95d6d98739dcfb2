"""What each class of error means for the call."""

import pytest

from inhouse.gateway.failover.policy import Step, step_after
from inhouse.gateway.failover.pool import ProviderCut
from inhouse.providers import errors
from inhouse.providers.errors import ProviderError

KINDS = {
    errors.RateLimited: (Step.AGAIN, Step.NEXT),
    errors.ServerFault: (Step.AGAIN, Step.NEXT),
    errors.Disconnected: (Step.AGAIN, Step.NEXT),
    errors.MalformedAnswer: (Step.NEXT, Step.NEXT),
    errors.TimedOut: (Step.ELSEWHERE, Step.ELSEWHERE),
    errors.NotAllowed: (Step.ELSEWHERE, Step.ELSEWHERE),
    errors.NotExpressible: (Step.ELSEWHERE, Step.ELSEWHERE),
    errors.ContextTooLong: (Step.LONGER, Step.LONGER),
    errors.ContentFiltered: (Step.GIVE, Step.GIVE),
    errors.RequestRefused: (Step.GIVE, Step.GIVE),
    ProviderCut: (Step.ELSEWHERE, Step.ELSEWHERE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_has_its_step(kind: type[ProviderError]) -> None:
    before, midway = KINDS[kind]
    assert step_after(kind("no"), has_begun=False, is_first=True) is before
    assert step_after(kind("no"), has_begun=True, is_first=True) is midway


def test_no_class_is_forgotten() -> None:
    assert {kind for kind in ProviderError.__subclasses__() if kind.__module__ == errors.__name__} <= set(KINDS)


def test_a_request_is_wrong_where_the_first_says_so_and_not_where_a_model_is_unknown() -> None:
    assert step_after(errors.RequestRefused("no", status=400), False, is_first=False) is Step.ELSEWHERE
    assert step_after(errors.RequestRefused("no", status=404), False, is_first=True) is Step.ELSEWHERE


def test_who_has_moved_or_says_nothing_is_gone_round() -> None:
    moved = errors.of_status(301, "", "", "host", None)
    assert "redirect" in str(moved) and step_after(moved, False, is_first=True) is Step.ELSEWHERE
    assert isinstance(errors.of_status(204, "", "", "host", None), errors.ServerFault)
