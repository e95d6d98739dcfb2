"""The sixteen classes of fault before the whole gateway, as a client sees them over HTTP."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.gateway.fault_classes import CLASSES, Outcome, World, asked_all, world_of, wrong_in_resume
from tests.gateway.fault_gateway import gateway_before
from tests.gateway.jumping_clock import run


async def told(recovery: str, is_stream: bool, seed: int, folder: Path) -> list[tuple[World, list[Outcome]]]:
    async with AsyncExitStack() as stack:
        worlds = {fault.name: await stack.enter_async_context(world_of(fault, seed)) for fault in CLASSES}
        asks = await stack.enter_async_context(gateway_before(worlds, recovery, folder))
        outcomes = await asyncio.gather(*(asked_all(fault, asks[fault.name], is_stream) for fault in CLASSES))
    return list(zip(worlds.values(), outcomes, strict=True))


@pytest.mark.parametrize("is_stream", [False, True])
def test_hold_hides_all_that_can_be_hidden(is_stream: bool, tmp_path: Path) -> None:
    found = run(told("hold", is_stream, 4, tmp_path))
    assert {fault.name: fault.check(*each) for fault, each in zip(CLASSES, found, strict=True)} == {
        fault.name: None for fault in CLASSES
    }


def test_resume_tells_nothing_wrong(tmp_path: Path) -> None:
    found = run(told("resume", True, 3, tmp_path))
    assert [wrong for world, outcomes in found for each in outcomes if (wrong := wrong_in_resume(world, each))] == []
