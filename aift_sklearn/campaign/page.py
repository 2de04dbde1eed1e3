"""The page that annotators see: files that come with the package, and what goes with them."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import NamedTuple

__all__ = ["FRONT", "FrontFile", "front_file"]

FRONT = {
    "page.html": "text/html; charset=utf-8",
    "token.html": "text/html; charset=utf-8",
    "again.html": "text/html; charset=utf-8",
    "annotate.js": "text/javascript; charset=utf-8",
    "annotate.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files of the page, and their types. No other is served."""


class FrontFile(NamedTuple):
    """A file of the page.

    Attributes
    ----------
    data : bytes
        What it holds.
    kind : str
        Its type, for Content-Type.
    etag : str
        Names its contents.
    """

    data: bytes
    kind: str
    etag: str


@functools.cache
def front_file(name: str) -> FrontFile:
    """Read a file of the page.

    Parameters
    ----------
    name : str
        One of `FRONT`.

    Raises
    ------
    KeyError
        If there is none of that name.

    Examples
    --------
    >>> front_file("annotate.css").kind
    'text/css; charset=utf-8'
    """
    kind = FRONT[name]
    data = (resources.files(__package__) / "front" / name).read_bytes()
    return FrontFile(data, kind, f'"{hashlib.sha256(data).hexdigest()[:24]}"')
