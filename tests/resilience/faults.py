"""The list of faults: each kind once in `make test`, many times in `make soak`.

A kind says how it strikes, what must be said about it, and which unbroken run the broken and restarted one must equal.
"""

import dataclasses
import errno
import signal
from collections.abc import Callable
from random import Random

from tests.resilience.job import Attempt, Install, Job, attempt
from tests.resilience.strike import Strike
from tests.resilience.strikes import (
    crash_after_bytes,
    die_in,
    extra,
    fall_asleep,
    flip,
    flip_weight,
    forget_failures,
    harm_text,
    jumping_clock,
    kill_all,
    kill_any_time,
    kill_in,
    leave_out,
    missing,
    nan_in,
    other_code,
    other_collective,
    other_manifest,
    other_recipe,
    poison,
    port_in_use,
    refuse,
    restore_text,
    shard_of,
    signal_launcher,
    skip,
    slow,
    slow_loader,
    stop,
    succeed,
    swapped,
    waited,
)

from inhouse.checkpoint import checkpointer, dcp_safetensors, manifest, sharded_save, writer_lease
from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.data.shards import Shards
from inhouse.model.transformer import Transformer
from inhouse.optim.optimizer import Optimizers
from inhouse.parallel import collectives
from inhouse.train import loop

KILLED = r"process {victim} of {world} was killed by SIGKILL"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    install: Callable[[Strike], None] | None = None  # in every rank's process
    damage: Callable[[Job, Random], str] | None = None  # of a stopped job's files; gives what must be said
    says: str = ""  # a regular expression; {victim} and {world} are filled in
    layout: str = "experts"
    at_start: bool = False  # strikes before the first step of an attempt that goes on from a checkpoint
    hangs: bool = False  # is found by a rank's silence, which is given up early for it
    timed: bool = False  # by seconds, not by steps
    earliest: int = 5  # the step that it may strike, from 0: there is a window of losses by then
    stays: bool = False  # in every attempt
    fails: bool = True  # the attempt that it strikes ends badly
    drive: Callable[[Job, Install], Attempt] = attempt  # how it is put into the job
    repeats: int = 1  # attempts that it strikes, before somebody puts its cause right
    saved: bool = False  # the attempt leaves a checkpoint of the very step
    reference: Callable[[Strike], None] | None = None  # what makes the run that it must equal; None: nothing
    differs: bool = False  # the log of the step that it strikes is not the reference's
    act: Callable[[Job], None] | None = None  # what the message asks for, before the next attempt
    check: Callable[[Job], None] | None = None  # of the finished job


def not_finite(place: str) -> Kind:
    return Kind(nan_in(place), says="step {k} skipped", fails=False, reference=skip, differs=True)


SHARD, INDEX = shard_of, lambda folder, chance: folder / dcp_safetensors.INDEX
BROKEN = r"process \d of {world} was killed by SIGXFSZ"
KINDS = {
    "kill -9 of a rank": Kind(kill_any_time, says=KILLED, timed=True),
    "kill -9 of a rank in forward": Kind(kill_in(Transformer, "forward"), says=KILLED),
    "kill -9 of a rank in the all-to-all": Kind(kill_in(collectives, "_all_to_all"), says=KILLED),
    "kill -9 of a rank in the optimizer": Kind(kill_in(Optimizers, "step"), says=KILLED),
    "kill -9 of a rank while saving": Kind(kill_in(sharded_save, "write_rank_file"), says=KILLED),
    "kill -9 of a rank while loading": Kind(
        kill_in(dcp_safetensors.SafetensorsReader, "read_data"), says=KILLED, at_start=True
    ),
    "kill -9 of a rank while reading data": Kind(kill_in(Shards, "read_into"), says=KILLED),
    "kill -9 of all ranks": Kind(kill_all, says=r"process \d of {world} was killed by SIGKILL"),
    "kill -9 of the launcher": Kind(signal_launcher(signal.SIGKILL, Transformer, "forward")),
    "SIGTERM": Kind(
        signal_launcher(signal.SIGTERM, Transformer, "forward"), says="with a checkpoint of step", saved=True
    ),
    "SIGTERM during a save": Kind(
        signal_launcher(signal.SIGTERM, sharded_save, "write_rank_file"),
        says="with a checkpoint of step",
        saved=True,
    ),
    "SIGTERM twice": Kind(
        signal_launcher(signal.SIGTERM, Transformer, "forward", 2), says="with a checkpoint of step", saved=True
    ),
    "SIGSTOP of a rank": Kind(stop, says="rank {victim} (without a sign of life, |)last seen in", hangs=True),
    "mismatched collective": Kind(
        other_collective, says="mismatched collectives: .*rank {victim} in all_gather", hangs=True
    ),
    "crash after k bytes of a shard": Kind(crash_after_bytes(dcp_safetensors, "save_file", 20_000), says=BROKEN),
    "crash after k bytes of the index": Kind(crash_after_bytes(checkpointer, "write_json", 1_000), says=BROKEN),
    "crash after k bytes of the manifest": Kind(crash_after_bytes(manifest, "write_json", 1_000), says=BROKEN),
    "crash after the shards, before the manifest": Kind(die_in(checkpointer, "write_manifest"), says="process 0 of"),
    "crash after the manifest, before the rename": Kind(die_in(Checkpointer, "_publish"), says="process 0 of"),
    "crash after the rename": Kind(die_in(checkpointer, "_steps"), says="process . of"),
    "flipped byte in a shard": Kind(damage=flip(SHARD)),
    "flipped byte in the index": Kind(damage=flip(INDEX)),
    "flipped byte in the manifest": Kind(damage=flip(lambda folder, chance: folder / manifest.MANIFEST)),
    "manifest of another step": Kind(damage=other_manifest),
    "missing shard": Kind(damage=missing),
    "extra shard": Kind(damage=extra),
    "swapped shards": Kind(damage=swapped),
    "disk full": Kind(
        refuse(dcp_safetensors, "save_file", errno.ENOSPC, lambda tensors, path: path),
        says=r"rank {victim} cannot write .*rank-0000{victim}.safetensors \(No space left",
    ),
    "read-only folder": Kind(
        refuse(writer_lease.WriterLease, "_take", errno.EROFS, lambda lease: lease.folder, by_victim=False),
        says=r"checkpoints: checkpoints cannot be written there \(Read-only file system\)",
        at_start=True,
    ),
    "zombie writer": Kind(fall_asleep, says="has taken over this run", drive=succeed, fails=False),
    "I/O error": Kind(
        refuse(dcp_safetensors, "sync_file", errno.EIO, lambda path: path),
        says=r"rank {victim} cannot write .*rank-0000{victim}.safetensors \(Input/output error",
    ),
    "NaN in a rank's gradient": not_finite("gradient"),
    "NaN in a rank's loss": not_finite("loss"),
    "NaN in a rank's router": not_finite("router"),
    "poisoned batch": Kind(
        poison, says="step {k} is a spike", earliest=7, fails=False, stays=True, reference=leave_out
    ),
    "flipped bit in a replica": Kind(flip_weight, says="ranks 0 and 1 differ in", layout="replicas"),
    "flipped bit in a replica, again and again": Kind(
        flip_weight,
        says="3 attempts ended alike.*ranks 0 and 1 differ",
        layout="replicas",
        repeats=4,
        act=forget_failures,
    ),
    "a rank with another seed": Kind(other_recipe(seed=99), says="seed of rank 1 is not that of", at_start=True),
    "a rank with another recipe": Kind(
        other_recipe(matrix_lr=0.5), says="train.matrix_lr of rank 1 is not that of", at_start=True
    ),
    "a rank with other code": Kind(other_code, says="code of rank 1 is not that of", at_start=True),
    "text changed": Kind(harm_text("changed"), says=r"shard-\d+.bin has changed", act=restore_text),
    "text cut": Kind(harm_text("cut"), says=r"shard-\d+.bin", act=restore_text),
    "text deleted": Kind(harm_text("deleted"), says=r"shard-\d+.bin is missing", act=restore_text),
    "slow rank": Kind(slow(loop.Trainer, "_batch", 0.4), says="rank {victim} holds up the others", fails=False),
    "slow loader": Kind(slow_loader(0.1), fails=False, check=waited("data wait", 0.2)),
    "clock jumps": Kind(jumping_clock, fails=False),
    "port in use": Kind(port_in_use, says=r"port \d+.*in use", at_start=True),
    "a save longer than its interval": Kind(
        slow(sharded_save, "write_rank_file", 2.5, everybody=True),
        fails=False,
        check=waited("checkpoint stall", 0.5),
    ),
}
