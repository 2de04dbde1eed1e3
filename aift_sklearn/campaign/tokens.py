"""The secret that lets annotators in: by address once, then by cookie; or by header."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable

from ..errors import ParameterError

__all__ = ["Token", "make_token"]

# A token stands in addresses and cookies as it is.
_TOKEN = re.compile("[A-Za-z0-9_-]{16,200}")
_DAYS = 30


def make_token() -> str:
    """Make a secret that nobody guesses.

    Examples
    --------
    >>> len(make_token()) >= 40
    True
    """
    return secrets.token_urlsafe(32)


class Token:
    """A secret, and where requests carry it.

    Parameters
    ----------
    text : str
        At least 16 letters, digits, - or _.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> token = Token("not-so-secret-here")
    >>> token.is_right("not-so-secret-here"), token.is_right("guessed")
    (True, False)
    >>> token
    Token(...)
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise ParameterError(
                "the token is not usable; expected at least 16 letters, digits, '-' or '_', such "
                "as secrets.token_urlsafe() gives."
            )
        self._text = text.encode("ascii")
        # Cookies of one host are shared by its ports, where other campaigns may be served.
        self.cookie = f"aift_{hashlib.sha256(self._text).hexdigest()[:10]}"

    def __repr__(self) -> str:
        return "Token(...)"

    def is_right(self, text: str) -> bool:
        """Whether a text is the token; how long that takes tells nothing."""
        return secrets.compare_digest(text.encode("utf-8", "replace"), self._text)

    def in_headers(self, cookies: Iterable[str], authorization: str) -> bool:
        """Whether the headers Cookie or Authorization hold it."""
        kind, _, text = authorization.partition(" ")
        if kind.lower() == "bearer" and self.is_right(text.strip()):
            return True
        for header in cookies:
            for pair in header.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.cookie and self.is_right(value):
                    return True
        return False

    def set_cookie(self) -> str:
        """Value of the header Set-Cookie that hands it to a browser."""
        text = self._text.decode("ascii")
        seconds = _DAYS * 24 * 3600
        return f"{self.cookie}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
