"""Names that tell nobody whom they are of: hashes with a salt that stays where the data is.

A patient's number has few digits: whoever knows how names are made tries them all and looks for
the hash. The salt, which nobody else has, prevents that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from ..errors import DataError, ParameterError

__all__ = ["SALT_FILE", "SaltedNames", "find_salt"]

SALT_FILE = ".aift-salt"
"""Name of the file that keeps a salt."""

# Characters of a salt that is made: 256 bits.
_LENGTH = 64


class SaltedNames:
    """Texts → 16 hexadecimal digits, which are the same for the same salt.

    Parameters
    ----------
    salt : str or bytes
        What makes the names differ from everybody else's.

    Examples
    --------
    >>> names = SaltedNames("a secret of this hospital")
    >>> names("patient", "1234567")
    '24561a7ffca6ff89'
    """

    def __init__(self, salt: str | bytes) -> None:
        if not isinstance(salt, (str, bytes)) or not salt:
            raise ParameterError(
                f"salt of type {type(salt).__name__}; expected text or bytes, not empty. None "
                f"makes one and keeps it in a file {SALT_FILE}."
            )
        # A key has at most 64 bytes, a salt may have more.
        self._key = hashlib.blake2b(_encode(salt) if isinstance(salt, str) else salt).digest()

    def __call__(self, kind: str, text: str) -> str:
        """Name a text; those of other kinds, such as "patient" and "study", have other names."""
        return hashlib.blake2b(
            _encode(text), digest_size=8, key=self._key, person=_encode(kind)
        ).hexdigest()


def _encode(text: str) -> bytes:
    # Names of files may be no text.
    return text.encode("utf-8", "surrogatepass")


def find_salt(folder: Path) -> str:
    """Return the salt of a folder; where it has none, make one and keep it.

    It is kept in the folder itself, so that it goes where the data goes; where that cannot be
    written, in ``$XDG_CONFIG_HOME/aift-sklearn`` or ``~/.config/aift-sklearn``, one for all such
    folders. Only its owner can read it.

    Parameters
    ----------
    folder : Path
        Where the data lies.

    Raises
    ------
    DataError
        If there is a salt that cannot be read, or no place to keep one.
    """
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "aift-sklearn"
    for place in (folder, settings):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return _read_salt(place / SALT_FILE)
        if place == settings:
            with contextlib.suppress(OSError):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Another process may have been faster, and its salt counts.
        with contextlib.suppress(OSError):
            _keep_salt(place / SALT_FILE)
            return _read_salt(place / SALT_FILE)
    raise DataError(
        f"no salt can be kept, neither in the folder nor in {settings}, which cannot be written; "
        "expected one of them, or a salt: pass salt=, the same text every time."
    )


def _read_salt(path: Path) -> str:
    reason = ""
    try:
        salt = path.read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        reason = "is damaged"
    else:
        reason = "" if len(salt) >= _LENGTH else "is damaged"
    if reason:
        # With another salt no candidate would be known by its label any more.
        raise DataError(
            f"the file {SALT_FILE}, which names candidates as before, {reason}; expected that of "
            "an earlier time. Restore it, or pass salt=, the same text for all who share labels."
        )
    return salt


def _keep_salt(path: Path) -> None:
    """Write a salt unless there is one, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_LENGTH // 2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a renaming, a link replaces nothing.
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:
            # Some file systems have no links.
            if not path.exists():
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
