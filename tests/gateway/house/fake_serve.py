"""Stands in for `inhouse serve`: what it says, what it answers and how it ends depend on the name of its run."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

run = Path(sys.argv[1])


class Handler(BaseHTTPRequestHandler):
    """Well at once, until the file `ill` lies in its run."""

    def do_GET(self) -> None:
        self.send_response(503 if (run / "ill").exists() else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def end() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    if (run / "broken").exists():
        print("no model here", file=sys.stderr)
        sys.exit(2)
    print("x" * 200_000, file=sys.stderr)  # nobody may wait for a reader
    threading.Thread(target=end, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    arguments = " ".join(sys.argv[1:])
    (run / "started").write_text(f"{os.getpid()}\n{arguments}\n{sorted(os.environ)}")
    print(
        f"preview is served at http://127.0.0.1:{server.server_port}/v1; Ctrl-C stops it", file=sys.stderr, flush=True
    )
    server.serve_forever()
