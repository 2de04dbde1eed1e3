"""Save and load models as folders of plain data: nothing that is loaded can run code.

``model.json`` is the tree of the estimator and names the files beside it with their SHA-256:
``arrays-….npz``, ``weights-….safetensors``, ``s0-….skops``. Their names follow from their contents,
they are written first, and ``model.json`` is replaced last, in one step. So a save that fails,
wherever it fails, leaves the model that was there before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from ..errors import DataError, ModelFileError, ParameterError, UnsupportedModelError
from ._decoding import Decoder
from ._encoding import Encoder
from .card import model_card

__all__ = ["SaveMixin", "load", "save"]

FORMAT, VERSION = "aift-sklearn model", 1
_PACKAGES = ("aift-sklearn", "numpy", "scipy", "scikit-learn", "torch", "skorch", "skops")
_OWN_FILES = re.compile(r"(arrays-[0-9a-f]{12}\.npz|weights-[0-9a-f]{12}\.safetensors|"
                        r"s\d+-[0-9a-f]{12}\.skops)")  # fmt: skip
_TEMPORARY = re.compile(rf"\.({_OWN_FILES.pattern}|README\.md|model\.json)\.\d+\.tmp")
_STALE = 3600.0


def save(
    estimator: Any,
    folder: str | os.PathLike[str],
    *,
    include_memory: bool = True,
    opener: Callable[..., Any] = open,
) -> Path:
    """Save an estimator or a learner to a folder, in one step.

    Parameters
    ----------
    estimator : AIFTClassifier, AIFTLearner, CNNClassifier, CNNFeatures or scikit-learn estimator
        Fitted or not. What was passed to its constructor and cannot be stored, such as a network
        of your own, is left out and has to be supplied to `load`.
    folder : path-like
        Made where it does not exist; a model that is there is replaced.
    include_memory : bool, default=True
        Whether the labelled candidates are stored, which replay needs. With False no image leaves
        with the model; `load` takes them again, and compares them by a fingerprint. How many
        labels each class and round had stays in the model and its card. (What an estimator itself
        keeps, as nearest neighbours do, is stored in any case.)
    opener : callable, default=open
        What opens files for writing.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UnsupportedModelError
        If a part cannot be stored as plain data, or if candidates are to be left out where they
        cannot; nothing was written.
    DataError
        If the folder is a file, or holds a ``README.md`` or ``model.json`` of something else.
    OSError
        If the disk is full or refuses; a model that was there before is intact.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier
    >>> model = AIFTClassifier(LogisticRegression()).fit([[0.], [1.], [2.], [3.]], [0, 0, 1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(model, folder)).predict([[0.], [3.]])
    array([0, 1])
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder, or a path where one can be made.")
    if not isinstance(estimator, BaseEstimator):
        raise UnsupportedModelError(
            f"{estimator!r:.80} is of type {type(estimator).__name__}; expected an estimator or a "
            "learner."
        )
    encoder = Encoder(include_memory=include_memory)
    tree = encoder.encode(estimator)
    _refuse_foreign(folder)
    writer = _Writer(folder, opener)
    with writer:
        files = writer.add_parts(encoder)
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        model = {
            "format": FORMAT,
            "version": VERSION,
            "class": type(estimator).__name__,
            "written": written,
            "versions": package_versions(_PACKAGES),
            "files": files,
            "model": tree,
        }
        model["sha256"] = _digest(model)
        card = model_card(estimator, model, include_memory=include_memory)
        text = json.dumps(model, ensure_ascii=False, allow_nan=False)
        writer.write("model.json", text.encode("utf-8", "surrogatepass"))
        writer.write("README.md", card.encode("utf-8", "replace"))
        writer.commit()
    return folder


def load(
    folder: str | os.PathLike[str],
    *,
    estimator: Any = None,
    memory: tuple[Any, Any] | None = None,
    query_strategy: Any = None,
    trusted: Iterable[str] | None = (),
) -> Any:
    """Load what `save` saved; it goes on exactly as if it had never been saved.

    Parameters
    ----------
    folder : path-like
        The folder.
    estimator : estimator, optional
        Built as the saved one was, unfitted: supplies what could not be stored, such as a network
        of your own, whose weights are then loaded.
    memory : tuple of (X, y), optional
        The labelled candidates, where they were left out, in the order in which they were taught.
    query_strategy : callable, optional
        The strategy of a learner, where it could not be stored.
    trusted : iterable of str, optional
        Types in scikit-learn parts that may be built, besides those that skops trusts.

    Returns
    -------
    estimator
        Of the class that was saved.

    Raises
    ------
    ModelFileError
        If there is no model, if it is damaged, or if it is of a newer format.
    UnsupportedModelError
        If a part has to be supplied and was not.
    UntrustedModelError
        If a scikit-learn part holds a type that is not trusted.
    ParameterError
        If ``memory`` is not what the model was taught, or not needed.
    """
    folder = Path(folder)
    memory = None if memory is None else _as_memory(memory)
    model = _read_model(folder)
    parts = {name: _read_part(folder / name, sha) for name, sha in model["files"].items()}
    arrays: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    skops: dict[str, bytes] = {}
    for name, data in parts.items():
        with _damaged(folder / name):
            if name.endswith(".npz"):
                with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                    arrays = dict(archive)
            elif name.endswith(".safetensors"):
                import safetensors.torch

                tensors = safetensors.torch.load(data)
            else:
                skops[name.partition("-")[0]] = data
    if isinstance(trusted, str):
        trusted = [trusted]
    decoder = Decoder(
        arrays,
        tensors,
        skops,
        estimator=estimator,
        memory=memory,
        query_strategy=query_strategy,
        trusted=tuple(trusted or ()),
    )
    with _damaged(folder / "model.json"):
        loaded = decoder.decode(model["model"])
    if type(loaded).__name__ != model["class"]:
        raise ModelFileError(
            f"{folder / 'model.json'} is damaged: it holds a {type(loaded).__name__}, and says "
            f"{model['class']!r}."
        )
    if memory is not None and not decoder.used_memory:
        raise ParameterError(
            f"memory was given, and {folder} has no use for it: the model was saved with what it "
            "was taught, or was taught nothing. Call load without memory."
        )
    return loaded


def _as_memory(memory: Any) -> tuple[Any, Any]:
    if isinstance(memory, (tuple, list)) and len(memory) == 2:
        X, y = (np.asarray(part) for part in memory)
        if X.ndim and y.ndim == 1 and len(X) == len(y):
            return X, y
    raise ParameterError(
        f"memory is {memory!r:.80}; expected the pair (X, y) of as many candidates as labels."
    )


class SaveMixin:
    """Methods of estimators that can be saved."""

    def save(self, folder: str | os.PathLike[str], *, include_memory: bool = True) -> Path:
        """Save to a folder; see `aift_sklearn.save`.

        Parameters
        ----------
        folder : path-like
            Made where it does not exist; a model that is there is replaced in one step.
        include_memory : bool, default=True
            Whether labelled candidates are stored too.

        Returns
        -------
        Path
            The folder.
        """
        return save(self, folder, include_memory=include_memory)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **options: Any) -> Self:
        """Load from a folder; see `aift_sklearn.load`.

        Parameters
        ----------
        folder : path-like
            The folder.
        **options
            ``estimator``, ``memory``, ``query_strategy`` and ``trusted`` of `aift_sklearn.load`.

        Returns
        -------
        estimator
            Of this class.

        Raises
        ------
        ModelFileError
            If the folder holds something else.
        """
        known = _read_model(Path(folder))["class"]
        if known != cls.__name__:
            raise ModelFileError(
                f"{folder} holds a model of class {known}, not {cls.__name__}; use {known}.load or "
                "aift_sklearn.load."
            )
        loaded: Self = load(folder, **options)
        return loaded


class _Writer:
    """Writes files under temporary names, and puts them in place together."""

    def __init__(self, folder: Path, opener: Callable[..., Any]) -> None:
        self.folder, self.opener = folder, opener
        self.pending: list[tuple[Path, Path]] = []
        self.is_new = not folder.exists()

    def add_parts(self, encoder: Encoder) -> dict[str, str]:
        """Write arrays, weights and scikit-learn parts: {file name: SHA-256}."""
        files: dict[str, str] = {}
        if encoder.arrays:
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **encoder.arrays)
            files |= self._add("arrays", ".npz", buffer.getvalue())
        if encoder.tensors:
            import safetensors.torch

            data = safetensors.torch.save(_unshared(encoder.tensors))
            files |= self._add("weights", ".safetensors", data)
        for name, data in encoder.skops.items():
            files |= self._add(name, ".skops", data)
        return files

    def _add(self, stem: str, suffix: str, data: bytes) -> dict[str, str]:
        sha = hashlib.sha256(data).hexdigest()
        name = f"{stem}-{sha[:12]}{suffix}"
        self.write(name, data)
        return {name: sha}

    def write(self, name: str, data: bytes) -> None:
        """Write a file that is put in place by `commit`."""
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        self.pending.append((temporary, self.folder / name))
        with self.opener(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Put the files in place, model.json after all parts, and remove the model before."""
        placed: list[Path] = []
        try:
            for temporary, final in self.pending:
                if final.name == "model.json":
                    _sync(self.folder)
                is_new = not final.exists()
                temporary.replace(final)
                placed += [final] if is_new else []
                if final.name == "model.json":
                    placed = []
        except OSError:
            for path in placed:
                path.unlink(missing_ok=True)
            raise
        _sync(self.folder)
        self._tidy({final.name for _, final in self.pending})

    def _tidy(self, named: set[str]) -> None:
        """Remove the parts of the model before, and what killed saves left."""
        for path in self.folder.iterdir():
            if _OWN_FILES.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)
            elif _TEMPORARY.fullmatch(path.name):
                # Another process may be saving right now.
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > _STALE:
                        path.unlink()

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(
                f"{self.folder} cannot be made: a part of that path is a file."
            ) from error
        return self

    def __exit__(self, *exc: object) -> None:
        for temporary, _ in self.pending:
            temporary.unlink(missing_ok=True)
        if self.is_new and exc[0] is not None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def _refuse_foreign(folder: Path) -> None:
    """Refuse to write over what `save` did not write."""
    path = folder / "model.json"
    if path.exists():
        with path.open("rb") as file:
            is_own = FORMAT.encode() in file.read(200)
        if is_own:
            return
    else:
        path = folder / "README.md"
    if path.exists():
        raise DataError(
            f"{path} was not written by this package, and would be replaced. Save to another "
            f"folder, such as {folder / 'model'}, or move the file away."
        )


def _unshared(tensors: dict[str, Any]) -> dict[str, Any]:
    # safetensors refuses tensors that share memory.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _sync(folder: Path) -> None:
    """Let the names in a folder survive a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(model: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of those packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@contextlib.contextmanager
def _damaged(path: Path) -> Any:
    """Turn what a damaged file makes its reader raise into one error that names it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error).__module__ == "aift_sklearn.errors":
            raise
        raise ModelFileError(f"{path} is damaged: {error}") from error
    except (KeyError, IndexError, AttributeError, OSError, EOFError, RuntimeError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}") from error
    except Exception as error:
        # safetensors and zipfile have errors of their own.
        if type(error).__module__.startswith(("safetensors", "zipfile", "zlib")):
            raise ModelFileError(f"{path} is damaged: {error}") from error
        raise


def _read_model(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is no folder; expected one that `save` wrote.")
    try:
        model = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelFileError(f"{folder} holds no model: there is no {path.name}.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged or truncated: {error}") from error
    if not isinstance(model, dict) or model.get("format") != FORMAT:
        raise ModelFileError(f"{path} is no model of this package.")
    version = model.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        versions = model.get("versions")
        writer = versions.get("aift-sklearn", "?") if isinstance(versions, dict) else "?"
        raise ModelFileError(
            f"{path} has format {version!r}, and this package reads 1 to {VERSION}; it was "
            f"written by aift-sklearn {writer}: pip install --upgrade aift-sklearn."
        )
    if model.pop("sha256", None) != _digest(model):
        raise ModelFileError(f"{path} is damaged: its contents are not those that were saved.")
    missing = [key for key in ("class", "files", "model") if key not in model]
    files = model.get("files")
    if missing or not isinstance(files, dict) or not all(map(_OWN_FILES.fullmatch, files)):
        raise ModelFileError(f"{path} is damaged: {missing or files!r} is not as expected.")
    return model


def _read_part(path: Path, sha: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} is missing or cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != sha:
        raise ModelFileError(
            f"{path} is damaged: its contents are not those that were saved. Copy the folder again."
        )
    return data
