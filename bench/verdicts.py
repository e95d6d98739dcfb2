"""Replies that mean harm, and verifiers that do: each graded 0, named, and the next reply graded as ever.

Replies to a problem of `functions:2` attack the sandbox; a verifier that crashes, hangs or dies is one of the tests'.

PYTHONPATH=. .venv/bin/python bench/verdicts.py
"""

import json
import time

from tests.environments.test_verdicts import PROBLEM, odd

from inhouse.environments.registry import environment_of
from inhouse.environments.verdicts import Ask, Verdicts

ENVIRONMENT = "functions:2"
ATTACKS = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "memory bomb": "x = 'x' * (1 << 40)\ny = [x] * (1 << 40)",
    "memory bomb, slowly": "x = []\nwhile True: x.append(bytearray(1 << 22))",
    "endless loop": "while True: pass",
    "sleep": "import time\ntime.sleep(3600)",
    "deleting files": "import os, shutil\nshutil.rmtree('/usr/lib')\nos.remove('/etc/passwd')",
    "network": "import socket\nsocket.create_connection(('1.1.1.1', 80))",
    "output of 10,000 processes": "import sys\nfor _ in range(10_000): sys.stdout.write('x' * 1_000_000)",
    "reading the answer": "import gc\ndef {name}(n): return [o for o in gc.get_objects() if 'assert' in str(o)][0]",
    "reading it from frames": (
        "import sys\ndef {name}(numbers):\n    frame = sys._getframe()\n"
        "    while frame := frame.f_back:\n        for each in frame.f_locals.values(): return each"
    ),
    "patching the test": "import builtins\nbuiltins.AssertionError = SystemExit\ndef {name}(n): raise SystemExit(0)",
    "leaving as if all were well": "import os\ndef {name}(numbers): os._exit(0)",
    "a value equal to all": "class E:\n    def __eq__(s, o): return True\ndef {name}(numbers): return E()",
    "killing its grader": "import os, signal\nos.kill(0, signal.SIGKILL)",
}  # fmt: skip


def main() -> None:
    (problem,) = environment_of(ENVIRONMENT).draw("train", 1, 0, None)
    name = json.loads(problem.answer or "")["name"]
    print(f"{'reply':28} {'score':>5} {'s':>6} {'then':>5}  why")
    with Verdicts(1, most_failed=1.0) as verdicts:
        verdicts.grade([Ask(ENVIRONMENT, problem, problem.worked)])
        for what, program in ATTACKS.items():
            reply = f"```python\n{program.replace('{name}', name)}\n```"
            show(verdicts, what, Ask(ENVIRONMENT, problem, reply), Ask(ENVIRONMENT, problem, problem.worked))
    with Verdicts(1, seconds=4.0, most_failed=1.0, resolve=odd) as verdicts:
        for what in ("crash", "hang", "leave", "die", "lie", "gone"):
            show(verdicts, f"a verifier that does: {what}", Ask("odd", PROBLEM, what), Ask("odd", PROBLEM, "fine"))


def show(verdicts: Verdicts, what: str, ask: Ask, next_one: Ask) -> None:
    started = time.perf_counter()
    (grade,) = verdicts.grade([ask])
    took = time.perf_counter() - started
    (then,) = verdicts.grade([next_one])
    print(f"{what:28} {grade.score:5g} {took:6.1f} {then.score:5g}  {(grade.why or '')[:70]}", flush=True)


if __name__ == "__main__":
    main()
