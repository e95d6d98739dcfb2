"""The secret of a gateway, never in its store: keys are stored under it, the audit log is signed with it."""

import base64
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "INHOUSE_GATEWAY_SECRET"
_BYTES = 32


def read_secret(path: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """The secret: of the variable INHOUSE_GATEWAY_SECRET, else of the file, which is made where missing (mode 0600).

    Raises `ValueError` where it is too short to be one, or where others may read the file.
    """
    if (given := environment.get(VARIABLE)) is not None:
        return _checked(given.strip().encode(), f"${VARIABLE}")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(
                f"{path}: others than its owner may use this file (mode {mode & 0o777:o}); chmod 600 {path.name}"
            ) from None
        return _checked(path.read_bytes().strip(), str(path))
    with os.fdopen(descriptor, "wb") as file:
        secret = base64.b64encode(secrets.token_bytes(_BYTES))
        file.write(secret + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return secret


def derive(secret: bytes, purpose: str) -> bytes:
    """A key of its own for each purpose: what one reveals says nothing about another."""
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()


def _checked(secret: bytes, where: str) -> bytes:
    if len(secret) < _BYTES:
        raise ValueError(
            f"{where}: a secret of {len(secret)} bytes; {_BYTES} at least (head -c 32 /dev/urandom | base64)"
        )
    return secret
