"""A job as Kubernetes manifests."""

import json
import re
from typing import Any

from inhouse.jobs.job import LAST_WORDS, MAX_RESTARTS, Job

_PORT = 29500
WORK = "/inhouse"  # where the volume is mounted in a pod


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
    name = kubernetes_name(job.name, 63 - len(f"-{job.nodes - 1}"))
    labels = {"app.kubernetes.io/name": name}
    queue = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue else {}
    selector = {"batch.kubernetes.io/job-name": name}
    items = [
        head("v1", "ConfigMap", name, labels) | {"data": {"recipe.toml": job.recipe.read_text(encoding="utf-8")}},
        # without the last one a pod finds the others only when all are ready
        head("v1", "Service", name, labels)
        | {"spec": {"clusterIP": "None", "selector": selector, "publishNotReadyAddresses": True}},
        head("batch/v1", "Job", name, labels | queue) | {"spec": _job_spec(job, name, labels)},
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def _job_spec(job: Job, name: str, labels: dict[str, str]) -> dict[str, Any]:
    cluster = job.cluster
    pod = {
        "subdomain": name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": cluster.grace_seconds + LAST_WORDS,
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
        "backoffLimit": MAX_RESTARTS * job.nodes,
        "activeDeadlineSeconds": max(60, round(cluster.time_limit_hours * 3600)),
        # a node that was drained or taken away is nobody's failure
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _container(job: Job, name: str) -> dict[str, Any]:
    rendezvous = [
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={name}-0.{name}:{_PORT}",
        f"--rdzv-id={name}",
        f"--local-addr={name}-$(JOB_COMPLETION_INDEX).{name}",
    ]
    make = job.torchrun_arguments(job.runs, f"{WORK}/recipe.toml", "--set", f'name="{job.name}"')
    return {
        "name": "train",
        "image": job.cluster.image,
        "command": [*job.torchrun(is_container=True), *rendezvous, *(part.replace("$", "$$") for part in make)],
        "workingDir": WORK,
        "env": [{"name": name, "value": value} for name, value in job.environment.items()],
        "resources": {"limits": {"nvidia.com/gpu": str(job.gpus)}},
        "volumeMounts": [
            {"name": "work", "mountPath": WORK},
            {"name": "recipe", "mountPath": f"{WORK}/recipe.toml", "subPath": "recipe.toml"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def kubernetes_name(name: str, longest: int) -> str:
    """A DNS label (RFC 1035) of at most so many letters, which may begin pods' host names. Raises `ValueError`."""
    label = "inhouse-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if label.endswith("-"):
        raise ValueError(f"name = {name}: Kubernetes takes a to z and 0 to 9 in names, and there is none of them in it")
    if len(label) > longest:
        raise ValueError(f"name = {name}: {label} is longer than the {longest} letters that a pod's name can have")
    return label


def head(version: str, kind: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """The head of a manifest."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}}
