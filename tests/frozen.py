"""Imported last by the server that processes are forked off: none of them looks for garbage in what it had before."""

import gc

gc.collect()
gc.freeze()
