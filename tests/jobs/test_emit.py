"""What `--emit` writes is what Slurm and Kubernetes take, whatever the user's names hold."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inhouse.jobs.emit import job_for
from inhouse.jobs.job import Job
from inhouse.jobs.settings import ClusterSettings

# The fields that we use, by the names and types of Kubernetes' published OpenAPI document (v1.34).
_NAMED = {"name": str, "labels": {str: str}}
_MOUNT = {"name": str, "mountPath": str, "subPath": str}
_CONTAINER = {
    "name": str, "image": str, "command": [str], "workingDir": str, "env": [{"name": str, "value": str}],
    "resources": {"limits": {str: str}}, "volumeMounts": [_MOUNT],
}  # fmt: skip
_VOLUME = {
    "name": str, "persistentVolumeClaim": {"claimName": str}, "configMap": {"name": str}, "emptyDir": {"medium": str},
}  # fmt: skip
_POD = {
    "subdomain": str, "restartPolicy": str, "terminationGracePeriodSeconds": int,
    "containers": [_CONTAINER], "volumes": [_VOLUME],
}  # fmt: skip
_RULE = {"action": str, "onPodConditions": [{"type": str, "status": str}]}
_JOB = {
    "completionMode": str, "completions": int, "parallelism": int, "suspend": bool, "backoffLimit": int,
    "activeDeadlineSeconds": int, "podFailurePolicy": {"rules": [_RULE]},
    "template": {"metadata": {"labels": {str: str}}, "spec": _POD},
}  # fmt: skip
_SERVICE = {"clusterIP": str, "selector": {str: str}, "publishNotReadyAddresses": bool}
_OBJECT = {"apiVersion": str, "kind": str, "metadata": _NAMED}
_SCHEMAS = {
    ("v1", "ConfigMap"): _OBJECT | {"data": {str: str}},
    ("v1", "Service"): _OBJECT | {"spec": _SERVICE},
    ("batch/v1", "Job"): _OBJECT | {"spec": _JOB},
}

# sbatch(1), Slurm 24.11: those that take a value, and those that do not need one
_WITH_VALUE = {
    "account", "gpus-per-node", "job-name", "mem", "nodes", "ntasks-per-node", "open-mode", "output", "partition",
    "signal", "time",
}  # fmt: skip
_FLAGS = {"exclusive", "requeue"}


def fits(value: Any, schema: Any) -> bool:
    if isinstance(schema, list):
        return isinstance(value, list) and all(fits(part, schema[0]) for part in value)
    if not isinstance(schema, dict):
        return type(value) is schema
    if str in schema:
        return isinstance(value, dict) and all(fits(part, schema[str]) for part in value.values())
    return isinstance(value, dict) and all(key in schema and fits(part, schema[key]) for key, part in value.items())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job whose every text wants quoting."""
    folder = tmp_path / 'it\'s $(here) "1"'
    folder.mkdir()
    monkeypatch.chdir(folder)
    recipe = folder / "my recipe.toml"
    recipe.write_text("[model]\nsize = 'tiny'\n# $(touch x) \" é\n", encoding="utf-8")
    cluster = ClusterSettings(queue="big", account="team", volume="data", image="reg/x:1")
    return Job(
        "My_model.1", 32, cluster, recipe, ["pretrain.tokens=5", "export.card='$(JOB) `id` $HOME;'"], Path("runs"),
        ["--until", "a $(b) 'c'"],
    )  # fmt: skip


def sbatch_options(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    options = dict(line.removeprefix("--").partition("=")[::2] for line in lines)
    assert all(line.startswith("--") and len(shlex.split(line)) == 1 for line in lines)
    assert {name for name, value in options.items() if value} <= _WITH_VALUE
    assert {name for name, value in options.items() if not value} <= _FLAGS
    return options


def test_the_slurm_script_holds_only_options_that_sbatch_knows(job: Job) -> None:
    script = job_for("slurm", job)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    options = sbatch_options(script)
    assert options["nodes"] == "4"
    assert options["gpus-per-node"] == "8"
    assert options["partition"] == "big"
    assert options["signal"] == "B:TERM@135"
    assert options["time"] == "1440"
    assert "requeue" in options
    plain = sbatch_options(job_for("slurm", job._replace(cluster=ClusterSettings())))
    assert {"partition", "account"}.isdisjoint(plain)


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which srun and scontrol write down their arguments; srun ends with 7 at SIGTERM."""
    commands = tmp_path / "bin"
    commands.mkdir()
    record = f'printf \'%s\\0\' "$0" "$@" > {shlex.quote(str(tmp_path))}'
    srun = (
        f'#!/bin/bash\n{record}/srun.partial\nmv {tmp_path}/srun.partial {tmp_path}/srun\n[ -z "$LASTS" ] && exit 3\n'
    )
    srun += "trap 'exit 7' TERM\nwhile :; do sleep 0.05; done\n"
    scontrol = '#!/bin/bash\nif [ "$1" = show ]; then printf "n1\\nn2\\n"; exit; fi\n' + record + "/scontrol\n"
    for name, text in (("srun", srun), ("scontrol", scontrol)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {"PATH": f"{commands}:/usr/bin:/bin", "SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "n[1-2]"}


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal (until then it would just die of it)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def recorded(path: Path) -> list[str]:
    return path.read_text().split("\0")[1:-1]


def test_srun_gets_every_argument_as_it_was_given(job: Job, slurm: dict[str, str], tmp_path: Path) -> None:
    job = job._replace(cluster=ClusterSettings(), processes=16)
    script = job_for("slurm", job)
    done = subprocess.run(["bash"], input=script, text=True, env=slurm, cwd="/")
    assert done.returncode == 3  # srun's own status, and no requeue
    assert not (tmp_path / "scontrol").exists()
    arguments = recorded(tmp_path / "srun")
    assert "--rdzv-endpoint=n1:24567" in arguments
    assert "--nnodes=2" in arguments
    interpreter = arguments.index(sys.executable)
    assert arguments[interpreter : interpreter + 3] == [sys.executable, "-m", "torch.distributed.run"]
    make = arguments[arguments.index("inhouse") - 1 :]
    stages = ("pretrain", "midtrain", "sft", "rl")
    grace = [f"{stage}.grace_seconds=120" for stage in stages]  # the cluster's, unless --set says otherwise
    sets = [part for override in (*grace, *job.overrides) for part in ("--set", override)]
    runs = ["--runs", str(Path.cwd() / "runs")]
    assert make == ["-m", "inhouse", "make", str(job.recipe), *sets, *job.options, *runs]


def test_when_its_time_is_up_a_job_saves_and_queues_again(job: Job, slurm: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(["bash", "-c", job_for("slurm", job)], env=slurm | {"LASTS": "1"}) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "srun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        while process.poll() is None and not catches(process.pid, signal.SIGTERM) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 7
    assert recorded(tmp_path / "scontrol") == ["requeue", "1234567"]


def test_the_manifests_hold_only_fields_that_kubernetes_knows(job: Job) -> None:
    items = json.loads(job_for("kubernetes", job))["items"]
    for item in items:
        assert fits(item, _SCHEMAS[item["apiVersion"], item["kind"]]), item
    recipe, service, batch = items
    assert recipe["data"]["recipe.toml"] == job.recipe.read_text(encoding="utf-8")
    name = batch["metadata"]["name"]
    assert name == service["metadata"]["name"] == "inhouse-my-model-1"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert batch["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "big"
    spec = batch["spec"]
    assert (spec["completions"], spec["parallelism"], spec["suspend"]) == (4, 4, True)
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == name
    assert pod["terminationGracePeriodSeconds"] > int(pod["containers"][0]["env"][0]["value"])
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    command = pod["containers"][0]["command"]
    assert f"--rdzv-endpoint={name}-0.{name}:29500" in command
    assert f"--local-addr={name}-$(JOB_COMPLETION_INDEX).{name}" in command
    assert command[:3] == ["python", "-m", "torch.distributed.run"]  # the container's
    assert "a $$(b) 'c'" in command
    # kubelet puts variables for $(NAME) and one $ for two
    assert "export.card='$$(JOB) `id` $$HOME;'" in command


def test_without_a_queue_the_job_starts_by_itself(job: Job) -> None:
    items = json.loads(job_for("kubernetes", job._replace(cluster=ClusterSettings(image="x", volume="y"))))["items"]
    assert items[2]["spec"]["suspend"] is False
    assert "kueue.x-k8s.io/queue-name" not in items[2]["metadata"]["labels"]


@pytest.mark.parametrize(
    ("target", "cluster", "sentence"),
    [
        ("pbs", {}, "--emit pbs: no such target; it is one of kubernetes, slurm"),
        ("kubernetes", {"volume": "v"}, 'needs a container image; add image = "…" to [cluster]'),
        ("kubernetes", {"image": "x"}, 'add volume = "…" to [cluster]'),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(job: Job, target: str, cluster: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        job_for(target, job._replace(cluster=ClusterSettings(**cluster)))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("processes", "nodes", "gpus"), [(1, 1, 1), (8, 1, 8), (24, 3, 8)])
def test_the_processes_of_the_recipe_fill_the_nodes(job: Job, processes: int, nodes: int, gpus: int) -> None:
    options = sbatch_options(job_for("slurm", job._replace(processes=processes)))
    assert (options["nodes"], options["gpus-per-node"]) == (str(nodes), str(gpus))
    with pytest.raises(ValueError, match=r"9 processes, which do not fill nodes .* nearest: 8 processes"):
        job_for("slurm", job._replace(processes=9))


def test_a_name_too_long_for_a_pod_is_refused(job: Job) -> None:
    with pytest.raises(ValueError, match="longer than the 61 letters"):
        job_for("kubernetes", job._replace(name="x" * 60))


@pytest.mark.parametrize(
    "bad", [{"queue": "a b"}, {"image": "a b"}, {"gpus_per_node": 0}, {"gpus": 8}, {"account": "x;y"}]
)
def test_the_table_is_strict(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClusterSettings(**bad)


def test_a_folder_that_a_container_cannot_mount_is_named(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a comma or a colon"):
        job_for("slurm", job._replace(runs=tmp_path / "a,b"))
