"""`inhouse make --emit`: a recipe's job as a Slurm batch script or as Kubernetes manifests. Nothing is submitted.

Both start one torchrun a node, give it the time to save when the cluster wants the nodes back, and start it again.
"""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings

_MAX_RESTARTS = 10  # of processes inside a job; a run that fails the same way three times stops by itself
_LAST_WORDS = 15  # seconds between the end of the grace period and the kill
_PORT = 29500
_WORK = "/inhouse"  # where the volume is mounted in a pod
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$"


class ClusterSettings(Settings):
    """The `[cluster]` table: where a job runs. What a run computes does not depend on it."""

    gpus_per_node: PositiveInt = Field(default=8, description="one process each; [parallel] gives how many there are")
    queue: str = Field(default="", pattern=_NAME, max_length=63, description="Slurm partition, or Kueue LocalQueue")
    account: str = Field(default="", pattern=_NAME, description="Slurm account")
    image: str = Field(default="", pattern=r"^\S*$", description="container with inhouse in it; Kubernetes needs one")
    volume: str = Field(default="", pattern=_NAME, description="Kubernetes: the claim that holds text and runs")
    time_limit_hours: PositiveFloat = 24.0
    grace_seconds: int = Field(default=120, ge=1, le=3600, description="to save, between SIGTERM and the kill")


class Job(NamedTuple):
    """One recipe to carry out on a cluster: the file, what `--set` changes in it, and the folder of runs."""

    name: str
    processes: int
    cluster: ClusterSettings
    recipe: Path
    overrides: list[str]
    runs: Path

    @property
    def nodes(self) -> int:
        return -(-self.processes // self.cluster.gpus_per_node)

    @property
    def gpus(self) -> int:
        """On each node."""
        return self.processes // self.nodes


def job_for(target: str, job: Job) -> str:
    """What `sbatch` (slurm) or `kubectl create -f` (kubernetes) takes.

    Raises `ValueError` for another target, where the target needs what the recipe does not say, or where the processes
    do not fill the nodes.
    """
    if job.processes % job.nodes:
        size = job.cluster.gpus_per_node
        raise ValueError(
            f"[parallel] asks for {job.processes} processes, which do not fill nodes of [cluster] gpus_per_node = "
            f"{size} alike; nearest: {job.processes - job.processes % size} processes"
        )
    targets: dict[str, Callable[[Job], str]] = {"kubernetes": kubernetes, "slurm": slurm}
    if target not in targets:
        raise ValueError(f"--emit {target}: no such target; it is one of {', '.join(targets)}")
    return targets[target](job)


def slurm(job: Job) -> str:
    """A batch script for a cluster whose nodes share the working folder and the recipe's."""
    cluster, here = job.cluster, Path.cwd()
    recipe, runs = job.recipe.resolve(), here / job.runs
    srun = ["srun", "--kill-on-bad-exit=1", "--cpu-bind=none"]
    if cluster.image:
        srun += [f"--container-image={cluster.image}", f"--container-mounts={_mounts(here, recipe.parent, runs)}"]
    make = _make(job, runs / job.name / "logs", [str(recipe), *_sets(job), "--runs", str(runs)])
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{option}" for option in _slurm_options(job)),
        "",
        f"cd {shlex.quote(str(here))} || exit",
        *(f"export {name}={value}" for name, value in _environment(cluster).items()),
        'host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "port=$((20000 + SLURM_JOB_ID % 10000))  # jobs that share a node differ",
        f"{shlex.join([*srun, 'torchrun'])} \\",
        '  --rdzv-backend=c10d --rdzv-endpoint="$host:$port" --rdzv-id="$SLURM_JOB_ID" \\',
        f"  {shlex.join(make)} </dev/null &",
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
    minutes = max(1, round(cluster.time_limit_hours * 60))
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": job.gpus,
        "mem": 0,  # all of it
        "time": minutes,
        "signal": f"B:TERM@{cluster.grace_seconds + _LAST_WORDS}",
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


def kubernetes(job: Job) -> str:
    """A List in JSON, which kubectl reads: the recipe's text, a headless Service, and a Job with one pod a node.

    The pods work in the claim `volume`; the recipe lies at its top, so its relative paths lead into the claim.
    """
    cluster = job.cluster
    for key, what in (("image", "a container image"), ("volume", "a PersistentVolumeClaim for text and runs")):
        if not getattr(cluster, key):
            raise ValueError(f'--emit kubernetes needs {what}; add {key} = "…" to [cluster]')
    if job.runs.is_absolute():
        raise ValueError(
            f"--runs {job.runs}: on Kubernetes runs lie in the claim {cluster.volume}; give a relative path"
        )
    name = _kubernetes_name(job)
    labels = {"app.kubernetes.io/name": name}
    queue = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue else {}
    selector = {"batch.kubernetes.io/job-name": name}
    items = [
        _object("v1", "ConfigMap", name, labels) | {"data": {"recipe.toml": job.recipe.read_text(encoding="utf-8")}},
        # without the last one a pod finds the others only when all are ready
        _object("v1", "Service", name, labels)
        | {"spec": {"clusterIP": "None", "selector": selector, "publishNotReadyAddresses": True}},
        _object("batch/v1", "Job", name, labels | queue) | {"spec": _job_spec(job, name, labels)},
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def _job_spec(job: Job, name: str, labels: dict[str, str]) -> dict[str, Any]:
    cluster = job.cluster
    pod = {
        "subdomain": name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": cluster.grace_seconds + _LAST_WORDS,
        "containers": [_container(job, name)],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": cluster.volume}},
            {"name": "recipe", "configMap": {"name": name}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},  # the default of 64 MB is too small for NCCL
        ],
    }
    return {
        "completionMode": "Indexed",
        "completions": job.nodes,
        "parallelism": job.nodes,
        "suspend": bool(cluster.queue),  # Kueue starts it
        # when one pod fails the others do: a failure counts once a node
        "backoffLimit": _MAX_RESTARTS * job.nodes,
        "activeDeadlineSeconds": max(60, round(cluster.time_limit_hours * 3600)),
        # a node that was drained or taken away is nobody's failure
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _container(job: Job, name: str) -> dict[str, Any]:
    cluster, runs = job.cluster, job.runs
    rendezvous = [
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={name}-0.{name}:{_PORT}",
        f"--rdzv-id={name}",
        f"--local-addr={name}-$(JOB_COMPLETION_INDEX).{name}",
    ]
    arguments = [f"{_WORK}/recipe.toml", *_sets(job), "--set", f'name="{job.name}"', "--runs", str(runs)]
    make = [part.replace("$", "$$") for part in _make(job, runs / job.name / "logs", arguments)]
    return {
        "name": "train",
        "image": cluster.image,
        "command": ["torchrun", *rendezvous, *make],
        "workingDir": _WORK,
        "env": [{"name": name, "value": value} for name, value in _environment(cluster).items()],
        "resources": {"limits": {"nvidia.com/gpu": str(job.gpus)}},
        "volumeMounts": [
            {"name": "work", "mountPath": _WORK},
            {"name": "recipe", "mountPath": f"{_WORK}/recipe.toml", "subPath": "recipe.toml"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _kubernetes_name(job: Job) -> str:
    """A DNS label (RFC 1035) which also begins the pods' host names."""
    name = "inhouse-" + re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")
    longest = 63 - len(f"-{job.nodes - 1}")
    if len(name) > longest:
        raise ValueError(f"name = {job.name}: {name} is longer than the {longest} letters that a pod's name can have")
    return name


def _object(version: str, kind: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}}


def _make(job: Job, logs: Path, arguments: list[str]) -> list[str]:
    """torchrun's arguments after the rendezvous: a log a rank, of which the first of each node is shown too."""
    return [
        f"--nnodes={job.nodes}",
        f"--nproc-per-node={job.gpus}",
        f"--max-restarts={_MAX_RESTARTS}",
        f"--log-dir={logs}",
        "--tee=3",
        "--local-ranks-filter=0",
        *("-m", "inhouse", "make", *arguments),
    ]


def _environment(cluster: ClusterSettings) -> dict[str, str]:
    return {
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(cluster.grace_seconds),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # a restart must not meet what the attempt before has left
    }


def _sets(job: Job) -> list[str]:
    """The user's changes, after the time that the cluster gives a run to save."""
    grace = [f"{stage}.grace_seconds={job.cluster.grace_seconds}" for stage in ("pretrain", "sft")]
    return [part for override in (*grace, *job.overrides) for part in ("--set", override)]
