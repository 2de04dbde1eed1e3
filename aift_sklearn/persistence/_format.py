"""The files of a saved model, and what ``model.json`` holds.

``model.json`` is the tree of the estimator and names the files beside it, its parts, with their
SHA-256: ``arrays-….npz``, ``weights-….safetensors``, ``s0-….skops``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import AIFTError, ModelFileError
from ._earlier import upgraded

__all__ = [
    "CARD",
    "FORMAT",
    "HEAD",
    "VERSION",
    "decode_head",
    "encode_head",
    "is_part",
    "model_digest",
    "named_parts",
    "part_name",
    "raised_as_damage",
    "sha256",
]

FORMAT, VERSION = "aift-sklearn model", 1
HEAD, CARD = "model.json", "README.md"

_PART = re.compile(
    r"(arrays-[0-9a-f]{12}\.npz|weights-[0-9a-f]{12}\.safetensors|s\d+-[0-9a-f]{12}\.skops)"
)


def is_part(name: str) -> bool:
    """Whether a file is a part of a model, by its name.

    Examples
    --------
    >>> is_part("s0-0123456789ab.skops"), is_part("../s0-0123456789ab.skops")
    (True, False)
    """
    return _PART.fullmatch(name) is not None


def sha256(data: bytes | memoryview) -> str:
    """Hash of a part."""
    return hashlib.sha256(data).hexdigest()


def part_name(stem: str, suffix: str, sha: str) -> str:
    """Name of a part by the hash of its contents.

    Examples
    --------
    >>> part_name("s0", ".skops", sha256(b""))
    's0-e3b0c44298fc.skops'
    """
    return f"{stem}-{sha[:12]}{suffix}"


def named_parts(head: bytes) -> set[str]:
    """Parts that a model.json names; none where it is damaged or of something else.

    Examples
    --------
    >>> named_parts(b'{"files": {"s0-e3b0c44298fc.skops": "", "notes.txt": ""}}')
    {'s0-e3b0c44298fc.skops'}
    """
    with contextlib.suppress(ValueError, RecursionError):
        model = json.loads(head)
        files = model.get("files") if isinstance(model, dict) else None
        return {name for name in files if is_part(name)} if isinstance(files, dict) else set()
    return set()


def model_digest(model: dict[str, Any]) -> str:
    """Hash of what a model.json holds, but for the hash itself."""
    return sha256(json.dumps(model, sort_keys=True).encode())


def encode_head(model: dict[str, Any]) -> bytes:
    """Contents of model.json, with their hash."""
    whole = {**model, "sha256": model_digest(model)}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def decode_head(data: bytes, path: Path) -> dict[str, Any]:
    """Check the contents of a model.json, of this format or an earlier one.

    Parameters
    ----------
    data : bytes
        The contents.
    path : Path
        Where they were found, for errors.

    Returns
    -------
    dict
        As of the present format.

    Raises
    ------
    ModelFileError
        If they are damaged, of something else, or of a later format.
    """
    try:
        model = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged or truncated: {error}") from error
    if not isinstance(model, dict) or model.get("format") != FORMAT:
        raise ModelFileError(f"{path} is no model of this package.")
    version = model.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        versions = model.get("versions")
        writer = versions.get("aift-sklearn", "?") if isinstance(versions, dict) else "?"
        raise ModelFileError(
            f"{path} has format {version!r}, and this package reads 1 to {VERSION}; it was "
            f"written by aift-sklearn {writer}. Update this package to that release."
        )
    if model.pop("sha256", None) != model_digest(model):
        raise ModelFileError(f"{path} is damaged: its contents are not those that were saved.")
    with raised_as_damage(path):
        model = upgraded(model, VERSION)
    missing = [key for key in ("class", "files", "model") if key not in model]
    files = model.get("files")
    if missing or not isinstance(files, dict) or not all(map(is_part, files)):
        raise ModelFileError(f"{path} is damaged: {missing or files!r} is not as expected.")
    return model


@contextlib.contextmanager
def raised_as_damage(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes its reader raise into one error that names it."""
    try:
        yield
    except AIFTError:
        raise
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    except (KeyError, IndexError, AttributeError, OSError, EOFError, RuntimeError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}") from error
    except Exception as error:
        # safetensors and zipfile have errors of their own.
        if type(error).__module__.startswith(("safetensors", "zipfile", "zlib")):
            raise ModelFileError(f"{path} is damaged: {error}") from error
        raise
