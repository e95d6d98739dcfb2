"""How processes end."""


class Terminated(BaseException):
    """SIGTERM, as an exception: like KeyboardInterrupt, it passes every `except Exception`."""
