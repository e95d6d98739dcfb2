"""Stands in for vLLM, which needs a GPU: the few paths that we use, in its words, over our own engine.

As a script: `vllm serve FOLDER --option=value …`. Without --dtype=float32 no engine is loaded and token n of an answer
is 100 + n. STAND_IN_RECORD is a file for what it was started with, STAND_IN_SECONDS how long a token takes.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

OPTIONS = dict(each.removeprefix("--").partition("=")[::2] for each in sys.argv[3:])
SECONDS = float(os.environ.get("STAND_IN_SECONDS", "0"))
LOCK = threading.Lock()
METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="model"} 3.0
vllm:num_requests_running{engine="1",model_name="model"} 1.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="model"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="model",reason="capacity"} 5.0
process_cpu_seconds_total 1.0
"""


def positions(body: dict[str, Any], known: list[Any]) -> dict[str, Any]:
    """vLLM's lists: the drawn token is always among the likeliest."""
    tops = [None if logprob is None else dict([*top, (token, logprob)]) for token, logprob, top in known]
    return {
        "tokens": [f"token_id:{token}" for token, _, _ in known],
        "token_logprobs": [logprob for _, logprob, _ in known],
        "top_logprobs": [None if top is None else {f"token_id:{t}": p for t, p in top.items()} for top in tops],
    }


def chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The choice of each chunk."""
    from inhouse.engine.request import SamplingParams

    same = (
        "max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "min_tokens", "ignore_eos", "seed", "stop_token_ids", "logprobs",
    )  # fmt: skip
    given = {name: body[name] for name in same if name in body}
    grammar = body.get("structured_outputs", {}).get("grammar")
    given["logit_bias"] = {int(token): bias for token, bias in body.get("logit_bias", {}).items()}
    params = SamplingParams(
        **given, prompt_logprobs=body.get("echo", False),
        grammar=None if grammar is None else json.dumps({"grammars": [{"lark_grammar": grammar}]}),
    )  # fmt: skip
    for output in ENGINE.stream(body["prompt"], params):
        known = [(output.token, output.logprobs.logprob, output.logprobs.top)]
        if output.prompt_logprobs is not None:
            first, *rest = body["prompt"]
            prompt = zip(rest, output.prompt_logprobs, strict=True)
            known = [(first, None, []), *((token, each.logprob, each.top) for token, each in prompt), *known]
        logprobs = positions(body, known) if "logprobs" in body else None
        yield {"token_ids": [output.token], "logprobs": logprobs, "finish_reason": output.finish_reason}


def counted(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for token in range(body["max_tokens"]):
        time.sleep(SECONDS)
        yield {"token_ids": [100 + token], "finish_reason": "length" if token == body["max_tokens"] - 1 else None}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, METRICS if self.path == "/metrics" else "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self.answer(401, '{"error": "Unauthorized"}')
        elif body["min_tokens"] > body["max_tokens"]:
            self.answer(400, '{"error": {"message": "min_tokens must be less than or equal to max_tokens"}}')
        elif body["priority"] == 66:
            self.answer(400, '{"error": {"message": "vLLM will not", "type": "BadRequestError", "code": 400}}')
        elif body["priority"] == 99:
            print("a last word", flush=True)
            os._exit(0)  # as vLLM ends where its engine has died
        else:
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            with LOCK:
                for choice in chunks(body) if ENGINE is not None else counted(body):
                    self.event({"choices": [{"index": 0, "text": "", **choice}]})
            if body["priority"] == 77:
                self.event({"error": {"message": "a secret of the inside", "code": 500}})
            details = {"prompt_tokens_details": {"cached_tokens": 2}}
            self.event({"choices": [], "usage": {"prompt_tokens": len(body["prompt"]), **details}})
            self.send("data: [DONE]\n\n")
            self.send("")

    def event(self, data: dict[str, Any]) -> None:
        self.send(f"data: {json.dumps(data)}\n\n")

    def send(self, text: str) -> None:
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


ENGINE: Any = None
if __name__ == "__main__":
    record = {"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}
    Path(os.environ["STAND_IN_RECORD"]).write_text(json.dumps(record))
    if OPTIONS["dtype"] == "float32":
        from inhouse.engine.settings import EngineSettings
        from inhouse.posttrain.opened_model import open_folder

        ENGINE = open_folder(Path(sys.argv[2])).engine(EngineSettings())
    print("the stand-in begins to listen", flush=True)
    Server(OPTIONS["uds"], Handler).serve_forever()
