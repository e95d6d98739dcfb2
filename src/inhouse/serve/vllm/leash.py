"""Runs a program that must not outlive the process which started it. A script: `leash.py PROGRAM ARGUMENT…`.

It leads a process group. When its standard input ends, or the program does, the whole group ends, and it too.
"""

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the program would inherit
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_input, daemon=True).start()
    print(f"vllm ended with status {program.wait()}", flush=True)
    os.killpg(0, signal.SIGKILL)  # what it has started


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
