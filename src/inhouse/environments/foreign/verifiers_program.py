"""Serves an environment of the library `verifiers` on loopback: run by the Python of the environment that has both.

It needs nothing of inhouse, which is not installed there. It reads `{"package", "port", "token"}` from its input and
answers with one line, `{"port"}` or `{"error"}`; when its input ends, whoever started it is gone, and so is it.

    POST /problems {"split", "count", "seed"}   [[number, prompt], …]
    POST /score    {"number", "reply"}          {"score"}
"""

import asyncio
import hashlib
import inspect
import json
import os
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGEST_REQUEST = 16 << 20  # bytes
HELDOUT_ONE_IN = 5


class Served:
    """The rows of an environment, and its rubric. Raises `ValueError` where it has several turns, or where the library
    is of a kind without environments."""

    def __init__(self, package: str) -> None:
        import verifiers

        if not hasattr(verifiers, "load_environment"):
            raise ValueError("this verifiers has tasksets and no load_environment; install 'verifiers<0.3'")
        environment = verifiers.load_environment(package)
        if not isinstance(environment, verifiers.SingleTurnEnv):
            raise ValueError(f"{package} is no SingleTurnEnv: those of several turns are not supported")
        self.rubric = environment.rubric
        self.rows = [dict(row) for row in environment.get_dataset()]
        self.prompts = [_text(row["prompt"]) for row in self.rows]
        self.full_marks = max(1.0, _positive_weights(self.rubric))

    def problems(self, split: str, count: int, seed: int) -> list[tuple[int, str]]:
        """Rows in an order of the seed; those whose prompt's hash says so are held out, and come once."""
        numbers = [n for n, prompt in enumerate(self.prompts) if _is_heldout(prompt) == (split == "heldout")]
        rng = random.Random(f"{split}/{seed}")
        drawn: list[int] = []
        while numbers and len(drawn) < count:
            rng.shuffle(numbers)
            drawn += numbers[: count - len(drawn)]
            if split == "heldout":
                break
        return [(number, self.prompts[number]) for number in drawn]

    def score(self, number: int, reply: str) -> float:
        """As a share of what the rubric's weights can give."""
        row, completion = self.rows[number], [{"role": "assistant", "content": reply}]
        state: dict[str, Any] = {
            "input": row, "prompt": row["prompt"], "completion": completion, "answer": row.get("answer", ""),
            "info": _info(row), "task": row.get("task", "default"), "trajectory": [], "turn": 1, "responses": [],
            "timing": {},
        }  # fmt: skip
        score = self.rubric.score_rollout
        if "completion" in inspect.signature(score).parameters:  # before verifiers 0.1.6
            told = asyncio.run(
                score(row["prompt"], completion, state["answer"], state, task=state["task"], info=state["info"])
            )
            reward = float(told.reward)
        else:
            asyncio.run(score(state))
            reward = float(state["reward"])
        return min(1.0, max(0.0, reward / self.full_marks))


def _text(prompt: Any) -> str:
    """A prompt's messages as the text of one: instructions before the question."""
    if isinstance(prompt, str):
        return prompt
    parts = [message["content"] for message in prompt]
    return "\n\n".join(part if isinstance(part, str) else part[0].get("text", "") for part in parts)


def _info(row: dict[str, Any]) -> Any:
    info = row.get("info") or {}
    return json.loads(info) if isinstance(info, str) else info


def _positive_weights(rubric: Any) -> float:
    rubrics = getattr(rubric, "rubrics", None) or [rubric]
    return sum(float(weight) for each in rubrics for weight in (getattr(each, "weights", None) or ()) if weight > 0)


def _is_heldout(text: str) -> bool:
    """As inhouse holds out."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % HELDOUT_ONE_IN == 0


def handler_of(served: Served, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            if self.headers.get("Authorization") != f"Bearer {token}" or size > LARGEST_REQUEST:
                self.send_error(403)
                return
            asked = json.loads(self.rfile.read(size))
            try:
                if self.path == "/problems":
                    answer: Any = served.problems(asked["split"], asked["count"], asked["seed"])
                else:
                    answer = {"score": served.score(asked["number"], asked["reply"])}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler


def main() -> None:
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is no answer of ours
    asked = json.loads(sys.stdin.readline())
    try:
        handler = handler_of(Served(asked["package"]), asked["token"])
        server = ThreadingHTTPServer(("127.0.0.1", asked["port"]), handler)
    except BaseException as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=told, flush=True)
        os._exit(1)
    print(json.dumps({"port": server.server_address[1]}), file=told, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
