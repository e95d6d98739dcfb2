"""What all tests have in common."""

import signal

from hypothesis import settings

# a shell's background jobs, and all that they start, ignore Ctrl-C; what is tested must not
signal.signal(signal.SIGINT, signal.default_int_handler)

# an example may take as long as it likes: how long says how busy the machine is, not whether the code is right
settings.register_profile("inhouse", deadline=None)
settings.load_profile("inhouse")
