"""A saved model read whole, while other processes may be saving to the same folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .._writing import DISK, Disk
from ..errors import ModelFileError
from ._format import HEAD, decode_head, sha256

__all__ = ["read_files"]

# Seconds between attempts to open what is named and is not there: on a network, names can lag.
_WAITS = (0.01, 0.03, 0.1, 0.3)
# Writers that were faster so many times are held off, where the system can.
_MOST_OVERTAKEN = 3


def read_files(folder: Path, *, disk: Disk = DISK) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read model.json and its parts, of one and the same save.

    A save removes the parts of the model before. So all parts are opened first, and read then: what
    is open stays readable. Where one was removed before that, there is a newer model.json, and the
    reader starts again.

    Parameters
    ----------
    folder : Path
        The folder.
    disk : Disk, optional
        What is asked to read.

    Returns
    -------
    model : dict
        Contents of model.json.
    parts : dict of str to bytes
        Contents of the parts, by their names.

    Raises
    ------
    ModelFileError
        If there is no model, or it is damaged, incomplete or of a later format.
    """
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is no folder; expected one that `save` wrote.")
    known, waits, n_overtaken = b"", list(_WAITS), 0
    while True:
        held = disk.lock(folder, shared=True) if n_overtaken >= _MOST_OVERTAKEN else None
        with held or contextlib.nullcontext():
            head = _read_head(folder / HEAD, disk)
            model = decode_head(head, folder / HEAD)
            try:
                return model, _read_parts(folder, model["files"], disk)
            except OSError as error:
                missing = error
        if head != known:
            known, waits, n_overtaken = head, list(_WAITS), n_overtaken + 1
        elif waits:
            time.sleep(waits.pop(0))
        else:
            raise ModelFileError(
                f"{missing.filename or folder} is missing or cannot be read: {missing}"
            ) from missing


def _read_head(path: Path, disk: Disk) -> bytes:
    for wait in (*_WAITS, None):
        try:
            with disk.open(path) as file:
                return file.read()
        except FileNotFoundError as error:
            raise ModelFileError(
                f"{path.parent} holds no model: there is no {path.name}."
            ) from error
        except OSError as error:
            if wait is None or isinstance(error, IsADirectoryError):
                raise ModelFileError(f"{path} cannot be read: {error}") from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _read_parts(folder: Path, files: Mapping[str, str], disk: Disk) -> dict[str, bytes]:
    parts = {}
    with contextlib.ExitStack() as stack:
        opened: dict[str, BinaryIO] = {
            name: stack.enter_context(disk.open(folder / name)) for name in files
        }
        for name, file in opened.items():
            parts[name] = file.read()
            if sha256(parts[name]) != files[name]:
                raise ModelFileError(
                    f"{folder / name} is damaged: its contents are not those that were saved. "
                    "Copy the folder again."
                )
    return parts
