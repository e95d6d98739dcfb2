"""Who has shown an administrator's key to the page, as a signed cookie: every replica knows it, none keeps a list."""

import hmac
import time
from collections.abc import Callable
from hashlib import sha256

from inhouse.gateway.store.keys import Keys
from inhouse.gateway.store.secret import derive
from inhouse.gateway.types import Caller

SECONDS = 8 * 3600  # a working day
COOKIE = "inhouse-session"


class Sessions:
    """A cookie is the digest of the key, when it ends, and a signature: who reads the store can make none, and with the
    key's secret (revoked, rotated) it ends too."""

    def __init__(self, keys: Keys, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._keys, self._key, self._now = keys, derive(secret, "sessions"), now

    def begin(self, secret: str) -> str:
        """The cookie of whoever has shown this key."""
        said = f"{self._keys.digest(secret)}.{self._now() + SECONDS:.0f}"
        return f"{said}.{self._sign(said)}"

    async def caller(self, cookie: str) -> Caller | None:
        """Whose it is; None where it is forged, over, or its key works no more."""
        said, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._sign(said).encode(), signature.encode("utf-8", "backslashreplace")):
            return None
        digest, _, ends = said.partition(".")
        return await self._keys.find_digest(digest) if self._now() < float(ends) else None

    def token(self, cookie: str) -> str:
        """What every form of this session carries: a page of a stranger cannot know it."""
        return self._sign(f"form {cookie}")

    def is_token(self, cookie: str, given: str) -> bool:
        return hmac.compare_digest(self.token(cookie).encode(), given.encode("utf-8", "backslashreplace"))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "backslashreplace"), sha256).hexdigest()
