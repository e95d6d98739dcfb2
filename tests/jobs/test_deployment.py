"""What `serve --emit kubernetes` writes is what Kubernetes takes, and starts `serve` with every option given."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from inhouse.api.middleware import Guarded
from inhouse.api.settings import ServeSettings
from inhouse.cli import app as cli
from inhouse.engine.settings import ServingSettings
from inhouse.jobs.settings import PodSettings

NEEDED = ["--image", "reg/inhouse:1", "--volume", "models", "--api-key-env", "API_KEY"]
# the fields that we use, by the names and types of Kubernetes' published OpenAPI document (v1.34)
PROBE = {
    "httpGet": {"path": str, "port": str}, "periodSeconds": int, "timeoutSeconds": int, "failureThreshold": int,
}  # fmt: skip
SOURCE = {"secretKeyRef": {"name": str, "key": str}, "fieldRef": {"fieldPath": str}}
CONTAINER = {
    "name": str, "image": str, "command": [str], "workingDir": str,
    "env": [{"name": str, "value": str, "valueFrom": SOURCE}], "ports": [{"name": str, "containerPort": int}],
    "resources": {"requests": {str: str}, "limits": {str: str}}, "startupProbe": PROBE, "readinessProbe": PROBE,
    "livenessProbe": PROBE, "lifecycle": {"preStop": {"sleep": {"seconds": int}}},
    "securityContext": {
        "allowPrivilegeEscalation": bool, "readOnlyRootFilesystem": bool, "capabilities": {"drop": [str]},
    },
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}  # fmt: skip
POD = {
    "automountServiceAccountToken": bool, "enableServiceLinks": bool, "terminationGracePeriodSeconds": int,
    "securityContext": {"runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "seccompProfile": {"type": str}},
    "containers": [CONTAINER],
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}, "emptyDir": {"medium": str}}],
}  # fmt: skip
SELECTOR = {"matchLabels": {str: str}}
METRIC = {"type": str, "pods": {"metric": {"name": str}, "target": {"type": str, "averageValue": str}}}
SPECS = {
    ("apps/v1", "Deployment"): {
        "selector": SELECTOR, "progressDeadlineSeconds": int,
        "template": {"metadata": {"labels": {str: str}}, "spec": POD},
    },
    ("v1", "Service"): {"selector": {str: str}, "ports": [{"name": str, "port": int, "targetPort": str}]},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "scaleTargetRef": {"apiVersion": str, "kind": str, "name": str}, "minReplicas": int, "maxReplicas": int,
        "metrics": [METRIC],
    },
    ("policy/v1", "PodDisruptionBudget"): {"selector": SELECTOR, "maxUnavailable": int},
}  # fmt: skip
QUANTITY = r"\d+(Gi)?"


def fits(value: Any, schema: Any) -> bool:
    if isinstance(schema, list):
        return isinstance(value, list) and all(fits(part, schema[0]) for part in value)
    if not isinstance(schema, dict):
        return type(value) is schema
    if str in schema:
        return isinstance(value, dict) and all(fits(part, schema[str]) for part in value.values())
    return isinstance(value, dict) and all(key in schema and fits(part, schema[key]) for key, part in value.items())


@pytest.fixture
def emit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str]]:
    """`emit("--port", "9")` gives the manifests by kind, or None, and what stands on stderr."""

    def run(*options: str, model: str = "runs/preview", needed: list[str] = NEEDED) -> tuple[Any, str]:
        arguments = ["serve", "--emit", "kubernetes", *needed, *options, "--", model]
        monkeypatch.setattr(sys, "argv", ["inhouse", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return (None if end.value.code else {item["kind"]: item for item in json.loads(out)["items"]}), err

    return run


def pod_of(items: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = items["Deployment"]["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def test_the_manifests_hold_only_fields_that_kubernetes_knows(emit: Callable[..., Any]) -> None:
    items, _ = emit()
    assert {(item["apiVersion"], kind) for kind, item in items.items()} == SPECS.keys()
    for item in items.values():
        assert fits(item["spec"], SPECS[item["apiVersion"], item["kind"]]), item
        assert fits(item["metadata"], {"name": str, "labels": {str: str}})
        assert item["metadata"]["name"] == "inhouse-preview"
    _, container = pod_of(items)
    resources = container["resources"]
    assert all(re.fullmatch(QUANTITY, each) for part in resources.values() for each in part.values())
    assert resources["limits"]["nvidia.com/gpu"] == "1"


def test_the_parts_find_each_other(emit: Callable[..., Any]) -> None:
    items, _ = emit("--port", "8123", "--queue-per-pod", "5", "--max-sequences", "48", "--max-pods", "9")
    pod, container = pod_of(items)
    labels = items["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = (
        items["Deployment"]["spec"]["selector"]["matchLabels"], items["Service"]["spec"]["selector"],
        items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    )  # fmt: skip
    assert all(selector.items() <= labels for selector in selectors)
    assert container["ports"] == [{"name": "http", "containerPort": 8123}]
    assert items["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    scaled = items["HorizontalPodAutoscaler"]["spec"]
    assert (scaled["scaleTargetRef"]["name"], scaled["maxReplicas"]) == ("inhouse-preview", 9)
    wanted = {each["pods"]["metric"]["name"]: each["pods"]["target"]["averageValue"] for each in scaled["metrics"]}
    assert wanted == {"inhouse_queued_sequences": "5", "inhouse_running_sequences": "48"}


def test_a_pod_has_time_to_load_and_to_end_and_few_rights(emit: Callable[..., Any]) -> None:
    pod, container = pod_of(emit("--start-minutes", "10")[0])
    start, ready, alive = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    assert start["periodSeconds"] * start["failureThreshold"] == 600
    assert ready["periodSeconds"] * ready["failureThreshold"] < alive["periodSeconds"] * alive["failureThreshold"]
    assert "--shutdown-timeout=120" in container["command"]
    assert pod["terminationGracePeriodSeconds"] > 120 + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    pod, container = pod_of(emit("--shutdown-timeout", "700")[0])
    assert container["command"].count("--shutdown-timeout=700") == 1 and pod["terminationGracePeriodSeconds"] > 705
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    key = container["env"][0]
    assert key == {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "inhouse-preview", "key": "API_KEY"}}}


def test_a_pod_answers_to_the_names_that_are_used_in_a_cluster(emit: Callable[..., Any]) -> None:
    command = pod_of(emit("--allowed-hosts", "llm.example.org")[0])[1]["command"]
    named = [each.partition("=")[2] for each in command if each.startswith("--allowed-hosts=")]
    hosts = [each.replace("$(POD_IP)", "10.1.2.3").replace("$(POD_NAMESPACE)", "ours") for each in named]
    guard = Guarded(lambda *_: None, hosts, ())  # type: ignore[arg-type,return-value]
    for host in ("10.1.2.3:8000", "inhouse-preview", "inhouse-preview.ours.svc.cluster.local:8000", "llm.example.org"):
        assert guard._fault({"host": host}) is None, host  # type: ignore[arg-type]
    assert guard._fault({"host": "evil.example"}) is not None  # type: ignore[arg-type]


def test_every_option_of_the_command_is_carried_or_refused(emit: Callable[..., Any], tmp_path: Path) -> None:
    of_the_manifest = {"model", "emit", "output", "settings_file", "api_key_env", *PodSettings.model_fields}
    values = {
        "port": "9", "host": "::", "name": "it", "dtype": "bf16", "engine": "vllm", "gpus": "2",
        "allowed_hosts": "a.example", "cors_origins": "https://a.example", "tls_certificate": "x", "tls_key": "x",
        "weights": "int8", "speculation": "ngram",
    }  # fmt: skip
    command = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
    for option in command.params:
        if option.name in of_the_manifest or option.name == "help":
            continue
        flag = max(option.opts, key=len)
        given = [flag] if option.is_flag else [f"{flag}={values.get(option.name, '7')}"]
        more = ["--engine=vllm"] if option.name == "gpus" else []
        items, err = emit(*given, *more)
        if items is None:
            assert err.startswith("inhouse: ") and flag in err, flag
        else:
            assert {given[0], f"{given[0]}.0"} & set(pod_of(items)[1]["command"]), flag
    for name in {*ServeSettings.model_fields, *ServingSettings.model_fields}:
        assert name in {option.name for option in command.params}
    (tmp_path / "s.toml").write_text("max_queue = 3\ncompile = false\n")
    command_line = pod_of(emit("--settings", str(tmp_path / "s.toml"))[0])[1]["command"]
    assert {"--max-queue=3", "--no-compile"} <= set(command_line)


def test_odd_names_stay_texts_of_the_command(emit: Callable[..., Any]) -> None:
    odd = 'a"\n- b: $(HOME) {x}'
    items, _ = emit("--name", odd, model="runs/-odd $x")
    command = pod_of(items)[1]["command"]
    assert f"--name={odd.replace('$', '$$')}" in command  # kubelet makes one $ of two, and would fill $(HOME) in
    assert command[-2:] == ["--", "runs/-odd $$x"]
    assert items["Service"]["metadata"]["name"] == "inhouse-a-b-home-x"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--image", ""], "add --image NAME"),
        (["--volume", ""], "add --volume NAME"),
        (["--api-key-env", ""], "the whole cluster can reach a pod"),
        (["--api-key-env", "a-b"], "not 'a-b'"),
        (["--name", "x" * 60], "longer than the 63 letters"),
        (["--name", "日本"], "a to z and 0 to 9"),
        (["--port", "0"], "--port 0"),
        (["--host", "127.0.0.1"], "--host 127.0.0.1"),
        (["--tls-key", "k"], "let the ingress speak HTTPS"),
        (["--min-pods", "5"], "--min-pods 5 is over --max-pods 4"),
        (["--gpus", "2"], "--engine vllm takes more"),
        (["--engine", "vllm", "--threads", "2"], "--threads has no meaning with --engine vllm"),
        (["--engine", "other"], "--engine other: no such engine"),
        (["--emit", "slurm"], "--emit slurm: no such target"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(emit: Callable[..., Any], options: list[str], sentence: str) -> None:
    items, err = emit(*options)
    assert items is None and sentence in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("model", ["/models/mine", "../mine"])
def test_the_model_lies_in_the_claim(emit: Callable[..., Any], model: str) -> None:
    assert "the model lies in the claim models" in emit(model=model)[1]


def test_what_belongs_to_the_manifests_is_not_taken_without_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--image", "x"], ["--output", "x"], ["--gpus", "0"], ["--gpus", "1"]):
        monkeypatch.setattr(sys, "argv", ["inhouse", "serve", ".", *option])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2 and option[0] in capsys.readouterr().err


def test_eight_bits_are_for_pods_without_a_gpu(emit: Callable[..., Any]) -> None:
    items, err = emit("--weights=int8")
    assert items is None and "--gpus 0" in err
    items, _ = emit("--weights=int8", "--gpus=0")
    assert "--weights=int8" in pod_of(items)[1]["command"]
