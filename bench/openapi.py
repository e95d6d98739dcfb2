"""schemathesis on the OpenAPI document that a server gives of itself: it answers as it says, whatever is sent.

    python bench/openapi.py [--examples N] [--seed S]

Serves a tiny model of random weights and runs every check but one, N examples an operation and a phase: the document's
types cannot say that a prompt must fit the context, or which fields do not go together, so what they allow may get 400.
The exit status is that of schemathesis. Needs the `clients` extra, and no network.
"""

import sys

from schemathesis_run import options, run
from tiny_server import NAME, served

CONTEXT, CHOICES = 64, 2  # what is asked for is often all that there may be


def main() -> None:
    asked = options(__doc__, examples=50)
    with served(CONTEXT, CHOICES) as url:
        status = run(url, NAME, asked)
    sys.exit(status)


if __name__ == "__main__":
    main()
