"""Who may come in, and how often: tokens, each of a tenant, and a limit of requests a second.

A file of tokens has a line for each, `TENANT SHA256`, so that who reads the file cannot come in.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from pathlib import Path

from unrolled.errors import InputError
from unrolled.server.refusal import Refusal

__all__ = ["Access", "add_token", "read_tokens"]

LINE = re.compile(r"([A-Za-z0-9._-]{1,64}) ([0-9a-f]{64})")
NOBODY = ""  # the one tenant of a server without tokens


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def add_token(path: Path, tenant: str) -> str:
    """A new token for a tenant, whose hash is added to the file; raises `InputError`."""
    token = secrets.token_urlsafe(32)  # 256 random bits need no slow hash
    line = f"{tenant} {_hashed(token)}"
    if not LINE.fullmatch(line):
        raise InputError(f"tenant is {tenant!r}, expected 1 to 64 letters, digits or . _ -")
    try:
        with open(path, "ab+", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"  # of an editor that ends no last line
            file.write(f"{line}\n".encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return token


def read_tokens(path: Path) -> dict[str, str]:
    """The tenant of each hash in a file; raises `InputError` for one that is not of tokens."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read: {reason}; `unrolled token` makes one") from error
    for number, line in enumerate(lines, 1):
        if not (parts := LINE.fullmatch(line)):
            raise InputError(f"{path}, line {number}: expected a tenant and a SHA-256, as `unrolled token` writes")
        found[parts[2]] = parts[1]
    if not found:
        raise InputError(f"{path} has no tokens, expected at least one: `unrolled token TENANT --tokens {path}`")
    return found


class Access:
    """Lets tenants in, each at most `rate` times a second (0: any number), in bursts of as many, or of one.

    Without tokens there is one tenant, and everybody is it.
    """

    def __init__(self, tokens: dict[str, str] | None, rate: float) -> None:
        self._tokens = tokens
        self._rate = rate
        self._allowance: dict[str, tuple[float, float]] = {}

    def tenant(self, authorization: str | None) -> str:
        """The tenant of an Authorization header; raises `Refusal`."""
        if self._tokens is None:
            return NOBODY
        scheme, _, token = (authorization or "").partition(" ")
        presented, found = _hashed(token.strip()), None
        for known, tenant in self._tokens.items():  # all of them, whichever it is
            if hmac.compare_digest(known, presented):
                found = tenant
        if scheme.lower() != "bearer":
            raise Refusal(401, "unauthorized", "the request needs a token: Authorization: Bearer TOKEN.")
        if found is None:
            raise Refusal(401, "unauthorized", "the token is none of those that the server read as it started.")
        return found

    def count(self, tenant: str) -> None:
        """One request more; raises `Refusal` if it comes too soon."""
        if not self._rate:
            return
        now = time.monotonic()
        most = max(1.0, self._rate)
        left, before = self._allowance.get(tenant, (most, now))
        left = min(most, left + (now - before) * self._rate)
        if left < 1:
            raise Refusal(
                429, "too_many_requests", f"more than {self._rate:g} requests a second, try again later."
            )
        self._allowance[tenant] = (left - 1, now)
