"""schemathesis on the OpenAPI document that the gateway gives of itself: it answers as it says, whatever is sent.

    python bench/gateway_openapi.py [--examples N] [--seed S]

Runs the gateway before a provider on loopback, with an administrator's key, and every check but one, N examples an
operation and a phase: the document's types cannot say which fields do not go together, or what no provider has words
for, so what they allow may get 400. The exit status is that of schemathesis. Needs the `clients` extra, and no network.
"""

import sys
import tempfile
from pathlib import Path

from billing_provider import MODELS
from gateway_process import GatewayProcess, billing
from schemathesis_run import options, run


def main() -> None:
    asked = options(__doc__, examples=20)
    with tempfile.TemporaryDirectory() as folder, billing(Path(folder)) as provider:
        gateway = GatewayProcess(Path(folder, "gateway"), provider.port)
        try:
            status = run(f"http://127.0.0.1:{gateway.port}", MODELS["/v1/chat/completions"], asked, gateway.key)
        finally:
            gateway.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
