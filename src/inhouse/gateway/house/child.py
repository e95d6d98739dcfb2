"""`python -m inhouse.gateway.house.child serve …` is `inhouse serve …`, ended with whoever started it, however that one
ended: its input ends then."""

import runpy
import threading

from inhouse.common.processes import end_with_parent

if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    runpy.run_module("inhouse", run_name="__main__", alter_sys=True)
