"""One writer at a time: a file that is locked as long as somebody writes beside it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

__all__ = ["FileLock"]


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file, or say that another one has it; systems without locks let all in."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network drives know no locks
        return True
    return True


class FileLock:
    """A lock that ends with the process that holds it, however that ends.

    Parameters
    ----------
    path : Path
        File that says who holds it; made here, and removed by `release`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one, other = (FileLock(Path(folder) / "table.lock") for _ in range(2))
    ...     one.acquire(), other.acquire(), one.release(), other.acquire(), other.release()
    (True, False, None, True, None)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        """Take the lock, unless another writer has it."""
        while self._file is None:
            file = self.path.open("a+", encoding="utf-8")
            if not _try_lock(file):
                file.close()
                return False
            if not self._is_in_place(file):
                # The holder before removed the file after it was opened here.
                file.close()
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            self._file = file
        return True

    def _is_in_place(self, file: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def holder(self) -> str:
        """What the holder wrote about itself."""
        with contextlib.suppress(OSError):
            return self.path.read_text("utf-8").strip() or "another process"
        return "another process"

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self._file.close()
            self._file = None
