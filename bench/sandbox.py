"""Programs a second through the sandbox, beside a new Python for each, which holds nothing in.

.venv/bin/python bench/sandbox.py [--count 200]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from inhouse.environments.sandbox.sandbox import Sandbox

PROGRAM = "def f(x):\n    return x + 1\nassert f(1) == 2"


def per_second(count: int, do: Callable[[], object], num_threads: int = 1) -> float:
    do()
    with ThreadPoolExecutor(num_threads) as threads:
        started = time.perf_counter()
        for done in [threads.submit(do) for _ in range(count)]:
            done.result()
        return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    solution, tests = PROGRAM.rsplit("\n", 1)
    with Sandbox() as sandbox:
        runs = per_second(count, lambda: sandbox.run(PROGRAM))
        checks = per_second(count, lambda: sandbox.check(solution, tests, ["f"]))
        together = per_second(count, lambda: sandbox.check(solution, tests, ["f"]), num_threads=8)
    new = per_second(count // 4, lambda: subprocess.run([sys.executable, "-c", PROGRAM], check=True))
    print(f"a new Python each        {new:7.1f} programs/s")
    print(f"sandbox, one program     {runs:7.1f} programs/s   {runs / new:.1f} times")
    print(f"sandbox, solution+tests  {checks:7.1f} checks/s     {checks / new:.1f} times")
    print(f"the same, 8 threads      {together:7.1f} checks/s     {together / new:.1f} times")


if __name__ == "__main__":
    main()
