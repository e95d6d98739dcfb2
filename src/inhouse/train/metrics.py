"""What a training run says about itself: metrics.jsonl and TensorBoard events, one entry every few steps."""

import json
import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from inhouse.common.files import write_atomic
from inhouse.train.balance import Balance


def balance_fields(balances: list[Balance]) -> dict[str, Any]:
    """Lists over MoE layers: the fullest and the emptiest expert's load over the mean, and the router's entropy."""
    if not balances:
        return {}
    relative = [b.load_E.float() / b.load_E.float().mean() for b in balances]
    return {
        "expert_load_max": [round(load.max().item(), 4) for load in relative],
        "expert_load_min": [round(load.min().item(), 4) for load in relative],
        "router_entropy": [round(b.entropy.item(), 4) for b in balances],
    }


class MetricsWriter:
    """Appends to `folder/metrics.jsonl` and `folder/tensorboard/`; what lies after `first_step` is dropped first.

    After a restart the steps since the checkpoint are trained again, and must not stand in the file twice.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._path = folder / "metrics.jsonl"
        self._begin(first_step)

    def rewind(self, step: int) -> None:
        """Training goes on from an earlier `step`: what lies after it is dropped."""
        self._board.close()
        self._begin(step)

    def _begin(self, first_step: int) -> None:
        kept = [line for line in self._lines() if line["step"] <= first_step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        # no SummaryWriter: its thread waits by the calendar, and a clock that jumps ends it, then the whole run
        board = self._path.with_name("tensorboard")
        board.mkdir(exist_ok=True)
        self._board = EventsWriter(str(board / "events"), f".{first_step}")
        if first_step:
            self._board.write_event(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, **fields: Any) -> None:
        """`fields` are numbers, or lists of numbers, such as one a MoE layer."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **fields}) + "\n")
        for name, value in fields.items():
            values = {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
            for tag, number in values.items():
                if number is not None:
                    self._board.write_event(Event(step=step, wall_time=time.time(), summary=scalar(tag, number)))
        self._board.flush()

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines only: a kill may have cut the last one."""
        if not self._path.exists():
            return []
        lines = self._path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def close(self) -> None:
        self._board.close()
