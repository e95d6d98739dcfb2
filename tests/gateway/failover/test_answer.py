"""Whatever the first provider does, the client gets a whole answer, in time, or a clean error."""

import pytest
from tests.gateway.fault_classes import CLASSES, FaultClass, outcomes_of, wrong_in_resume
from tests.gateway.jumping_clock import run

EACH = pytest.mark.parametrize("fault", CLASSES, ids=[fault.name for fault in CLASSES])


@EACH
@pytest.mark.parametrize("is_stream", [False, True])
def test_hold_passes_every_class_of_fault(fault: FaultClass, is_stream: bool) -> None:
    world, outcomes = run(outcomes_of(fault, "hold", is_stream, seed=2))
    assert fault.check(world, outcomes) is None


@EACH
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_resume_tells_nothing_wrong(fault: FaultClass, seed: int) -> None:
    world, outcomes = run(outcomes_of(fault, "resume", True, seed))
    assert [wrong for outcome in outcomes if (wrong := wrong_in_resume(world, outcome))] == []
