"""One fault, put into a job: struck, said, restarted, and compared with the run that nothing happened to."""

import re
import threading
from functools import cached_property, partial
from pathlib import Path
from random import Random

from tests.resilience.faults import KINDS, Kind
from tests.resilience.job import CHECKPOINT_EVERY, STEPS, Attempt, Job, Result, attempt, differences, prepare, result
from tests.resilience.strike import Spec, Strike, struck, victim_of
from tests.resilience.strikes import kill_all_after_a_save

_LAST = STEPS - 3  # the last step that a fault strikes
_MOST_RESTARTS = 3


class Bench:
    """Jobs to start from, of one layout, and the unbroken runs; made when first asked for."""

    def __init__(self, folder: Path, layout: str) -> None:
        self.folder, self.layout = folder / layout, layout
        self._references: dict[tuple[str, int], Result] = {}
        self._making = threading.RLock()

    @cached_property
    def fresh(self) -> Job:
        """Nothing trained yet."""
        return prepare(self.folder / "fresh", self.layout)

    def start(self, kind: Kind) -> Job:
        """Where a fault of this kind finds the job."""
        with self._making:
            return self.halfway if kind.at_start or kind.damage else self.fresh

    @cached_property
    def halfway(self) -> Job:
        """Killed after two checkpoints."""
        job = self.fresh.copy(self.folder / "halfway")
        attempt(job, partial(install_kill_after_two_saves, job.folder))
        assert struck(job.folder) and job.newest_whole() == 2 * CHECKPOINT_EVERY
        return job

    def reference(self, kind: Kind, spec: Spec) -> Result:
        """The run that the broken one must equal."""
        key = (kind.reference.__name__, spec.step) if kind.reference else ("unbroken", 0)
        with self._making:
            if key not in self._references:
                job = self.fresh.copy(self.folder / f"{key[0]}-{key[1]}")
                ended = attempt(job, partial(install_reference, spec, job.folder))
                assert ended.status == 0, ended.said
                self._references[key] = result(job)
            return self._references[key]


def install_kill_after_two_saves(folder: Path, rank: int, world: int) -> None:
    kill_all_after_a_save(Strike(Spec("halfway", 0, step=2 * CHECKPOINT_EVERY), folder, rank, world))


def install(spec: Spec, folder: Path, rank: int, world: int) -> None:
    """Arm the fault in a rank's process."""
    arm = KINDS[spec.kind].install
    assert arm is not None
    arm(Strike(spec, folder, rank, world))


def install_all(specs: tuple[Spec, ...], folder: Path, rank: int, world: int) -> None:
    """Several faults in one attempt."""
    for spec in specs:
        install(spec, folder, rank, world)


def install_reference(spec: Spec, folder: Path, rank: int, world: int) -> None:
    arm = KINDS[spec.kind].reference
    if arm is not None:
        arm(Strike(spec, folder, rank, world))


def spec_of(name: str, seed: int, seconds: float = 1.0) -> Spec:
    """The instant of a fault; of those struck by the clock it lies in the first `seconds` of an attempt."""
    kind, chance = KINDS[name], Random(f"{name}, {seed}")
    step = -1 if kind.at_start or kind.timed else chance.randint(kind.earliest, _LAST)
    return Spec(name, seed, step, chance.uniform(0.0, seconds) if kind.timed else 0.0)


def endure(name: str, seed: int, bench: Bench, folder: Path, seconds: float = 1.0) -> bool:
    """Raises `AssertionError` with what was broken of the promise; False where the job ended before its instant."""
    kind, spec = KINDS[name], spec_of(name, seed, seconds)
    job = bench.start(kind).copy(folder)
    job = job.impatient() if kind.hangs else job
    if kind.damage is not None:
        says = kind.damage(job, Random(f"{name} {seed}"))
        # that of its interval, or the one that is kept from before the decay
        whole = job.newest_whole()
        assert CHECKPOINT_EVERY <= whole < 2 * CHECKPOINT_EVERY, "the checkpoint before the damaged one is whole"
        ended = attempt(job)
    else:
        says = kind.says
        for _ in range(kind.repeats):
            ended = kind.drive(job, partial(install, spec, job.folder))
        if kind.timed and ended.status == 0 and not struck(job.folder):
            return False
        check_struck(kind, spec, job, ended)
    names = {"victim": victim_of(spec, job.world), "world": job.world, "k": spec.step + 1}
    said = re.sub(r"\{(\w+)\}", lambda name: str(names[name[1]]), says)
    assert re.search(said, ended.said), f"{said!r} is not in what was said:\n{ended.said}"
    if ended.status != 0 and kind.act is not None:
        kind.act(job)
    for _ in range(_MOST_RESTARTS):
        if ended.status == 0:
            break
        ended = attempt(job, partial(install, spec, job.folder)) if kind.stays else attempt(job)
    assert ended.status == 0, f"it does not get to its end:\n{ended.said}"
    step_of_strike = frozenset({spec.step + 1} if kind.differs else ())
    wrong = differences(bench.reference(kind, spec), result(job), without=step_of_strike)
    assert not wrong, f"not as the run that nothing happened to: {'; '.join(wrong[:5])}"
    if kind.check is not None:
        kind.check(job)
    return True


def check_struck(kind: Kind, spec: Spec, job: Job, ended: Attempt) -> None:
    """It struck, and harmed no checkpoint that stood before."""
    assert struck(job.folder), f"the fault did not strike:\n{ended.said}"
    assert (ended.status != 0) == kind.fails, f"status {ended.status}:\n{ended.said}"
    newest = job.newest_whole()
    if kind.saved:
        assert newest > spec.step, f"no checkpoint was saved: the newest is of step {newest}\n{ended.said}"
    elif kind.at_start:
        assert newest == 2 * CHECKPOINT_EVERY
    elif not kind.timed:
        # that of the last interval may still have been under way
        assert newest >= (spec.step // CHECKPOINT_EVERY - 1) * CHECKPOINT_EVERY
