"""The gateway's manifests: what must be in them, and what has no meaning in a pod."""

import json
from pathlib import Path

import pytest

from inhouse.gateway.outside.deployment import gateway_deployment
from inhouse.gateway.outside.pods import GatewayPods

CONFIG = """
currency = "USD"
default = "m"
store = "postgresql://gateway@db/gateway"
[[provider]]
name = "acme"
dialect = "openai"
url = "https://127.0.0.1:1/v1"
key_env = "ACME_KEY"
[[provider.model]]
name = "m"
price = [{ currency = "USD", input = 1.0, output = 2.0 }]
"""


def test_the_manifests(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    pods = GatewayPods(image="reg/inhouse:1", max_pods=3)
    items = {item["kind"]: item for item in json.loads(gateway_deployment(file, "edge", pods))["items"]}
    assert {*items} == {"ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert {item["metadata"]["name"] for item in items.values()} == {"inhouse-edge"}
    assert items["ConfigMap"]["data"]["gateway.toml"] == CONFIG
    spec = items["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    secrets = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert secrets == {"ACME_KEY", "PGPASSWORD", "INHOUSE_GATEWAY_SECRET"}
    assert "--allowed-hosts=$(POD_IP)" in container["command"] and container["command"][-2:] == [
        "--",
        "/inhouse/gateway.toml",
    ]
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]
    scale = items["HorizontalPodAutoscaler"]["spec"]
    assert (scale["minReplicas"], scale["maxReplicas"]) == (2, 3)
    assert scale["metrics"][0]["pods"]["metric"]["name"] == "inhouse_gateway_calls_under_way"


def test_what_has_no_meaning_in_a_pod_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    with pytest.raises(ValueError, match="--image"):
        gateway_deployment(file, "edge", GatewayPods())
    with pytest.raises(ValueError, match="--min-pods 9 is over --max-pods 8"):
        gateway_deployment(file, "edge", GatewayPods(image="a", min_pods=9))
    for old, new, why in (
        ("postgresql://gateway@db/gateway", "gateway.sqlite", "ends with it"),
        ("[[provider]]", "[server]\nport = 0\n[[provider]]", "port = 0"),
    ):
        file.write_text(CONFIG.replace(old, new, 1))
        with pytest.raises(ValueError, match=why):
            gateway_deployment(file, "edge", GatewayPods(image="a"))
