"""`inhouse serve --emit kubernetes`: a served model as Kubernetes manifests."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.jobs.job import LAST_WORDS
from inhouse.jobs.kubernetes import WORK, kubernetes_name
from inhouse.jobs.pods import (
    CONTAINER_SECURITY,
    LIFECYCLE,
    POD_NAMES,
    POD_SECURITY,
    UNLISTED,
    container_command,
    manifests,
    own_hosts,
    pods_metric,
    probe,
)
from inhouse.jobs.settings import PodSettings

_PATIENCE = 120  # seconds for the answers under way then, where --shutdown-timeout does not say
_LIVE = 60  # seconds without an answer after which a pod is taken for dead


class Deployment(NamedTuple):
    """A model, and how `inhouse serve` is started on it: `flags` are the settings that somebody gave."""

    name: str
    model: Path
    port: int
    host: str | None
    key_variable: str
    dtype: str
    engine: str
    gpus: int
    flags: list[str]
    shutdown_timeout: int | None
    has_tls: bool
    max_sequences: int
    pods: PodSettings
    is_debug: bool


def deployment(asked: Deployment) -> str:
    """A List in JSON, which kubectl reads: Deployment, Service, autoscaler on the queue's length, disruption budget.

    Raises `ValueError` for what is missing, and for options that have no meaning in a pod.
    """
    _check(asked)
    name = kubernetes_name(asked.name, 63)
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "inhouse-serve"}
    own = {"app.kubernetes.io/name": name}
    pods = asked.pods
    metrics = [  # the queue adds pods; those that the running sequences fill stay though nobody waits
        pods_metric("inhouse_queued_sequences", pods.queue_per_pod),
        pods_metric("inhouse_running_sequences", asked.max_sequences),
    ]  # fmt: skip
    # how many pods there are is the autoscaler's to say
    spec = {
        "selector": {"matchLabels": own},
        "progressDeadlineSeconds": 60 * (pods.start_minutes + 1),
        "template": {"metadata": {"labels": labels}, "spec": _pod(asked, name)},
    }
    return manifests(name, labels, own, spec, asked.port, pods.min_pods, pods.max_pods, metrics)


def _check(asked: Deployment) -> None:
    pods, model = asked.pods, asked.model
    for key, what in (
        ("image", "a container image with inhouse in it"),
        ("volume", "the claim in which the model lies"),
    ):
        if not getattr(pods, key):
            raise ValueError(f"--emit kubernetes needs {what}; add --{key} NAME")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", asked.key_variable):
        raise ValueError(
            f"--emit kubernetes needs --api-key-env VARIABLE, not {asked.key_variable!r}: the whole cluster can reach "
            "a pod; the variable is set from the key of that name in a Secret"
        )
    if model.is_absolute() or ".." in model.parts:
        raise ValueError(f"{model}: on Kubernetes the model lies in the claim {pods.volume}; give its path in there")
    if asked.host not in (None, "0.0.0.0", "::"):
        raise ValueError(f"--host {asked.host}: a pod must be reached by its cluster; leave it out")
    if asked.port == 0:
        raise ValueError("--port 0: probes must know the port of a pod; give one")
    if asked.has_tls:
        raise ValueError("--tls-certificate and --tls-key: a pod has no such files; let the ingress speak HTTPS")
    if pods.min_pods > pods.max_pods:
        raise ValueError(f"--min-pods {pods.min_pods} is over --max-pods {pods.max_pods}")


def _pod(asked: Deployment, name: str) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [
        {"name": "work", "persistentVolumeClaim": {"claimName": asked.pods.volume}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},  # the default of 64 MB is too small for NCCL
    ]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables INHOUSE_…, made from the names of Services, would be read as settings
        "terminationGracePeriodSeconds": UNLISTED + (asked.shutdown_timeout or _PATIENCE) + LAST_WORDS,
        "securityContext": POD_SECURITY,
        "containers": [_container(asked, name)],
        "volumes": volumes,
    }  # fmt: skip


def _container(asked: Deployment, name: str) -> dict[str, Any]:
    pods = asked.pods
    memory = f"{pods.memory_gib}Gi"
    gpus = {"nvidia.com/gpu": str(asked.gpus)} if asked.gpus else {}
    secret = {"secretKeyRef": {"name": name, "key": asked.key_variable}}
    return {
        "name": "serve",
        "image": pods.image,
        "command": _command(asked, name),
        "workingDir": WORK,
        "env": [
            {"name": asked.key_variable, "valueFrom": secret},
            *POD_NAMES,
            {"name": "HOME", "value": "/tmp"},
            {"name": "USER", "value": "inhouse"},  # torch names its cache after whoever runs it, and asks for no id
        ],
        "ports": [{"name": "http", "containerPort": asked.port}],
        "resources": {"requests": {"cpu": str(pods.cpus), "memory": memory}, "limits": {"memory": memory} | gpus},
        # until the model is loaded nothing is answered; then /health is, however busy the server is
        "startupProbe": probe(period=5, failures=pods.start_minutes * 60 // 5),
        "readinessProbe": probe(period=5, failures=2),
        "livenessProbe": probe(period=10, failures=_LIVE // 10),
        "lifecycle": LIFECYCLE,
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "work", "mountPath": WORK, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }  # fmt: skip


def _command(asked: Deployment, name: str) -> list[str]:
    given = [
        *(["--debug"] if asked.is_debug else []), "serve", f"--host={asked.host or '0.0.0.0'}", f"--port={asked.port}",
        f"--name={asked.name}", f"--api-key-env={asked.key_variable}", f"--dtype={asked.dtype}",
        f"--engine={asked.engine}", *([f"--gpus={asked.gpus}"] if asked.engine == "vllm" else []),
        *([] if asked.shutdown_timeout else [f"--shutdown-timeout={_PATIENCE}"]),
        *asked.flags,
    ]  # fmt: skip
    hosts = [f"--allowed-hosts={host}" for host in own_hosts(name)]
    return container_command([*given, "--", str(asked.model)], hosts)
