"""schemathesis on the OpenAPI document that the gateway gives of itself: it answers as it says, whatever is sent.

    python bench/gateway_openapi.py [--examples N] [--seed S]

Runs the gateway before a provider on loopback, with an administrator's key, and every check but one, N examples an
operation and a phase: the document's types cannot say which fields do not go together, or what no provider has words
for, so what they allow may get 400. The exit status is that of schemathesis. Needs the `clients` extra, and no network.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from billing_provider import MODELS
from gateway_process import GatewayProcess, billing

_MODEL = MODELS["/v1/chat/completions"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    schemathesis = Path(sys.executable).with_name("schemathesis")
    with tempfile.TemporaryDirectory() as folder, billing(Path(folder)) as provider:
        gateway = GatewayProcess(Path(folder, "gateway"), provider.port)
        try:
            url, key = f"http://127.0.0.1:{gateway.port}", f"Bearer {gateway.key}"
            document = httpx.get(f"{url}/openapi.json", headers={"authorization": key}).json()
            for schema in document["components"]["schemas"].values():  # any other name gets 404 and no further
                if "model" in schema.get("required", ()):
                    schema["properties"]["model"] = {"const": _MODEL}
            Path(folder, "openapi.json").write_text(json.dumps(document), encoding="utf-8")
            command = [str(schemathesis), "run", "openapi.json", "--url", url, "--continue-on-failure"]
            command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
            command += ["--header", f"Authorization: {key}"]
            command += ["--max-examples", str(options.examples), "--seed", str(options.seed), "--request-timeout", "60"]
            status = subprocess.run(command, cwd=folder).returncode
        finally:
            gateway.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
