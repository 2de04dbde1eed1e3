"""Files written in one step: whole, or as they were before.

`write_atomically` writes one file, and `FileSet` several of a folder that belong together. Both
serve several processes and threads that write to one place: the last one wins, and whoever reads
sees what one of them wrote, whole. What a process that is killed leaves behind harms nobody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

from .errors import DataError, DataTypeError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["DISK", "Disk", "FileSet", "as_path", "lock_folder", "write_atomically"]

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.tmp")
# Seconds after which a file that nothing names is no longer of a save that is running.
_STALE = 3600.0
# The same for a file in its place while this writer holds the lock: only one without it, which the
# system refused or which is on another machine, can be about to name it.
_SETTLED = 60.0
# Seconds that a writer waits for others before it goes on without the lock.
_PATIENCE = 10.0
# Seconds between attempts to replace a file that somebody has open, which Windows refuses.
_RETRIES = (0.01, 0.03, 0.1)


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` as the home folder.

    Parameters
    ----------
    path : path-like
        Such as "~/models/cells".

    Returns
    -------
    Path
        The path.

    Raises
    ------
    DataTypeError
        If it is no path.

    Examples
    --------
    >>> as_path("~/models") == Path.home() / "models"
    True
    """
    try:
        # As a shell does it: ./~x is a name, and so is ~x where there is no user x.
        return Path(os.path.expanduser(os.fspath(path)))
    except TypeError as error:
        raise DataTypeError(
            f"the path is {path!r:.80} of type {type(path).__name__}; expected text or a Path."
        ) from error


@contextlib.contextmanager
def lock_folder(
    folder: Path, *, shared: bool = False, patience: float = _PATIENCE
) -> Iterator[bool]:
    """Hold off others who lock the folder too, where the system can.

    Parameters
    ----------
    folder : Path
        Nothing is written to it.
    shared : bool, default=False
        Whether others may hold it who pass True as well.
    patience : float, default=10
        Seconds to wait; a process that was stopped while it held the lock stops no other.

    Yields
    ------
    bool
        Whether it is locked. Network file systems and Windows may have no lock.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        held = _acquire(descriptor, shared=shared, patience=patience)
        try:
            yield held
        finally:
            if held:
                # A child that was forked meanwhile has the descriptor open too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, *, shared: bool, patience: float) -> bool:
    if fcntl is None:
        return False
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                return False
            # At odd times, or two that wait would stay in step.
            time.sleep(random.uniform(0.0005, 0.005))
        else:
            return True


class Disk:
    """What reading and writing ask of the system."""

    def open(self, path: Path) -> BinaryIO:
        """Open a file for reading."""
        return path.open("rb")

    def write(self, path: Path, data: bytes | memoryview) -> None:
        """Write a file, on the disk before this returns."""
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Give a file the name of another, which it replaces in one step."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def sync(self, folder: Path) -> None:
        """Let the names in a folder survive a loss of power, where the system can."""
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def lock(
        self, folder: Path, *, shared: bool = False
    ) -> contextlib.AbstractContextManager[bool]:
        """Hold off writers, where the system can; see `lock_folder`."""
        return lock_folder(folder, shared=shared)


DISK = Disk()
"""The one that there is."""


def write_atomically(path: Path, data: str | bytes, *, disk: Disk = DISK) -> Path:
    """Write a file under another name, and put it in place once it is on the disk.

    Parameters
    ----------
    path : Path
        Replaced where it exists; its folder is made.
    data : str or bytes
        Contents; text is written as UTF-8.
    disk : Disk, optional
        What is asked to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the path is a folder, or leads through a file.
    OSError
        If the disk is full or refuses; a file that was there before is intact.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "notes.txt", "µm").read_text("utf-8")
    'µm'
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected the name of a file.")
    _make_folder(path.parent)
    temporary = _temporary(path)
    try:
        disk.write(temporary, data.encode() if isinstance(data, str) else data)
        _replace(disk, temporary, path)
    finally:
        disk.remove(temporary)
    disk.sync(path.parent)
    return path


class FileSet:
    """Files of a folder that belong together, replaced in one step.

    One of them, the head, names the others, its parts, whose names follow from their contents. They
    are put in place first and the head last: whoever reads the head and then opens the parts has
    the files of one writer. A part can be gone by then where another writer was faster; a reader
    starts again with the head that is there now.

    Parameters
    ----------
    folder : Path
        Made where it does not exist; if nothing is written, unmade.
    head : str
        Name of the head.
    parts_of : callable
        Contents of a head → names of its parts; empty where it is no head.
    is_part : callable
        Whether a file of the folder is a part, by its name.
    disk : Disk, optional
        What is asked to write.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for text in (b"1", b"2"):
    ...         with FileSet(Path(folder), "head", parts_of=lambda head: {head.decode()},
    ...                      is_part=str.isdigit) as files:
    ...             files.write(text.decode(), b"of " + text)
    ...             files.commit(text)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['2', 'head']
    """

    def __init__(
        self,
        folder: Path,
        head: str,
        *,
        parts_of: Callable[[bytes], set[str]],
        is_part: Callable[[str], bool],
        disk: Disk = DISK,
    ) -> None:
        self.folder, self.head, self.disk = folder, head, disk
        self.parts_of, self.is_part = parts_of, is_part
        self._parts: dict[str, bytes | memoryview] = {}
        self._temporary: dict[str, Path] = {}
        self._made: list[Path] = []

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a part, which `commit` puts in place."""
        self._parts[name] = data
        self._write(name, data)

    def commit(self, head: bytes, beside: Mapping[str, bytes] | None = None) -> None:
        """Put the files in place, and remove the parts of the head before.

        Parameters
        ----------
        head : bytes
            Contents of the head.
        beside : mapping of str to bytes, optional
            Files that describe the set and are no parts of it, put in place after the head.
        """
        beside = beside or {}
        for name, data in {self.head: head, **beside}.items():
            self._write(name, data)
        with self.disk.lock(self.folder) as locked:
            before = self.parts_of(self._read_head())
            self._place_set(locked)
            try:
                self.disk.sync(self.folder)
                self._restore_parts(head)
                for name in beside:
                    self._place(name)
                self.disk.sync(self.folder)
            finally:
                self._tidy(before, set(beside), locked)

    def _write(self, name: str, data: bytes | memoryview) -> None:
        temporary = self._temporary[name] = _temporary(self.folder / name)
        try:
            self.disk.write(temporary, data)
        except FileNotFoundError:
            # Another writer who made the folder failed, and unmade it.
            self._made += _make_folder(self.folder)
            self.disk.write(temporary, data)

    def _place(self, name: str) -> None:
        _replace(self.disk, self._temporary[name], self.folder / name)

    def _place_set(self, locked: bool) -> None:
        fresh = []
        try:
            for name in self._parts:
                fresh += [] if (self.folder / name).exists() else [name]
                self._place(name)
            self.disk.sync(self.folder)
            self._place(self.head)
        except BaseException:
            # Without the lock, another writer may be about to name a part of the same contents.
            for name in set(fresh) - self.parts_of(self._read_head()) if locked else ():
                self.disk.remove(self.folder / name)
            raise

    def _restore_parts(self, head: bytes) -> None:
        """Put back parts that a writer without the lock removed as they were put in place."""
        for name, data in self._parts.items():
            if not (self.folder / name).exists() and self._read_head() == head:
                self._write(name, data)
                self._place(name)

    def _read_head(self) -> bytes:
        try:
            return (self.folder / self.head).read_bytes()
        except OSError:
            return b""

    def _tidy(self, before: set[str], beside: set[str], locked: bool) -> None:
        """Remove the parts of the head before, and what killed writers left."""
        with contextlib.suppress(OSError):
            # By the clock of the file system, which may be another machine's.
            now = (self.folder / self.head).stat().st_mtime
            for path in list(self.folder.iterdir()):
                temporary = _TEMPORARY.fullmatch(path.name)
                name = temporary["name"] if temporary else path.name
                if not (self.is_part(name) or (temporary and name in {self.head, *beside})):
                    continue
                limit = _SETTLED if locked and not temporary else _STALE
                with contextlib.suppress(OSError):
                    if path.name in before or now - path.stat().st_mtime > limit:
                        self._remove_unnamed(path)

    def _remove_unnamed(self, path: Path) -> None:
        if self._is_named(path.name):
            return
        # Put aside first: a writer without the lock may be about to name it.
        aside = _temporary(path)
        self.disk.replace(path, aside)
        if self._is_named(path.name):
            self.disk.replace(aside, path)
        else:
            self.disk.remove(aside)

    def _is_named(self, name: str) -> bool:
        return name in self._parts or name in self.parts_of(self._read_head())

    def __enter__(self) -> Self:
        self._made = _make_folder(self.folder)
        return self

    def __exit__(self, *exc: object) -> None:
        for temporary in self._temporary.values():
            with contextlib.suppress(OSError):
                self.disk.remove(temporary)
        if exc[0] is not None:
            with contextlib.suppress(OSError):
                for folder in self._made:
                    folder.rmdir()


def _temporary(path: Path) -> Path:
    """Name that no other process or thread writes to, beside the file."""
    # Names of files are limited to 255 bytes.
    return path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.tmp")


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; return what was made, the innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{folder} cannot be made: a part of that path is a file.") from error
    return made


def _replace(disk: Disk, source: Path, target: Path) -> None:
    for wait in _RETRIES:
        try:
            return disk.replace(source, target)
        except PermissionError:
            time.sleep(wait)
    return disk.replace(source, target)
