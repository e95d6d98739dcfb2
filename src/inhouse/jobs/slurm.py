"""A job as a Slurm batch script."""

import re
import shlex
from pathlib import Path

from inhouse.jobs.job import LAST_WORDS, Job


def slurm(job: Job) -> str:
    """A batch script for a cluster whose nodes share the working folder and the recipe's."""
    here, image = Path.cwd(), job.cluster.image
    recipe, runs = job.recipe.resolve(), here / job.runs
    srun = ["srun", "--kill-on-bad-exit=1", "--cpu-bind=none"]
    if image:
        srun += [f"--container-image={image}", f"--container-mounts={_mounts(here, recipe.parent, runs)}"]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{option}" for option in _slurm_options(job)),
        "",
        f"cd {shlex.quote(str(here))} || exit",
        *(f"export {name}={value}" for name, value in job.environment.items()),
        'host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "port=$((20000 + SLURM_JOB_ID % 10000))  # jobs that share a node differ",
        f"{shlex.join([*srun, *job.torchrun(bool(image))])} \\",
        '  --rdzv-backend=c10d --rdzv-endpoint="$host:$port" --rdzv-id="$SLURM_JOB_ID" \\',
        f"  {shlex.join(job.torchrun_arguments(runs, str(recipe)))} </dev/null &",
        "step=$!",
        "trap 'is_stopping=1; kill -TERM \"$step\"' TERM",
        'wait "$step"; status=$?',
        'if [ -n "${is_stopping:-}" ]; then  # the time is up: it saves, and goes on when its turn comes again',
        '  wait "$step"; status=$?',
        '  [ "$status" -eq 0 ] || scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


def _slurm_options(job: Job) -> list[str]:
    cluster = job.cluster
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": job.gpus,
        "mem": 0,  # all of it
        "time": max(1, round(cluster.time_limit_hours * 60)),
        "signal": f"B:TERM@{cluster.grace_seconds + LAST_WORDS}",
        "open-mode": "append",
        "output": f"{job.name}-%j.log",
        "partition": cluster.queue,
        "account": cluster.account,
    }
    return ["exclusive", "requeue", *(f"{name}={value}" for name, value in options.items() if value != "")]


def _mounts(*folders: Path) -> str:
    """Each folder at its own path inside the container (pyxis)."""
    names = sorted({str(folder) for folder in folders})
    if bad := next((name for name in names if re.search("[,:]", name)), None):
        raise ValueError(f"{bad}: a folder with a comma or a colon cannot be mounted in a container; rename it")
    return ",".join(f"{name}:{name}" for name in names)
