"""schemathesis on the OpenAPI document that a server gives of itself: it answers as it says, whatever is sent.

    python bench/openapi.py [--examples N] [--seed S]

Serves a tiny model of random weights and runs every check but one, N examples an operation and a phase: the document's
types cannot say that a prompt must fit the context, or which fields do not go together, so what they allow may get 400.
The exit status is that of schemathesis. Needs the `clients` extra, and no network.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tiny_server import NAME, served

CONTEXT, CHOICES = 64, 2  # what is asked for is often all that there may be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    schemathesis = Path(sys.executable).with_name("schemathesis")
    with served(CONTEXT, CHOICES) as url, tempfile.TemporaryDirectory() as folder:
        document = httpx.get(f"{url}/openapi.json").json()
        for schema in document["components"]["schemas"].values():  # any other name gets 404 and no further
            if "model" in schema.get("required", ()):
                schema["properties"]["model"] = {"const": NAME}
        Path(folder, "openapi.json").write_text(json.dumps(document), encoding="utf-8")
        command = [str(schemathesis), "run", "openapi.json", "--url", url, "--continue-on-failure"]
        command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
        command += ["--max-examples", str(options.examples), "--seed", str(options.seed), "--request-timeout", "60"]
        sys.exit(subprocess.run(command, cwd=folder).returncode)


if __name__ == "__main__":
    main()
