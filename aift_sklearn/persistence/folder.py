"""Save and load models as folders of plain data: nothing that is loaded can run code.

The parts of a model, which ``model.json`` names, are written first, under names that follow from
their contents, and ``model.json`` is replaced last, in one step. So a save that fails, wherever it
fails, leaves the model that was there before, and a model can be loaded while others save to its
folder.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._versions import package_versions
from .._writing import DISK, Disk, FileSet, as_path
from ..errors import DataError, ModelFileError, ParameterError, UnsupportedModelError
from ._decoding import Decoder
from ._encoding import Encoder
from ._format import (
    CARD,
    FORMAT,
    HEAD,
    VERSION,
    encode_head,
    is_part,
    named_parts,
    part_name,
    raised_as_damage,
    sha256,
)
from ._reading import read_files
from .card import model_card

__all__ = ["hash_of", "load", "save"]

_PACKAGES = ("aift-sklearn", "numpy", "scipy", "scikit-learn", "torch", "skorch", "skops")


def save(estimator: Any, folder: str | os.PathLike[str], *, include_memory: bool = True) -> Path:
    """Save an estimator or a learner to a folder, in one step.

    Parameters
    ----------
    estimator : AIFTClassifier, AIFTLearner, CNNClassifier, CNNFeatures or scikit-learn estimator
        Fitted or not. What was passed to its constructor and cannot be stored, such as a network
        of your own, is left out and has to be supplied to `load`.
    folder : path-like
        Made where it does not exist; a model that is there is replaced. Of several processes that
        save to one folder the last wins, and those that load meanwhile get what one of them saved.
    include_memory : bool, default=True
        Whether the labelled candidates are stored, which replay needs. With False no image leaves
        with the model; `load` takes them again, and compares them by a fingerprint. How many
        labels each class and round had stays in the model and its card. (What an estimator itself
        keeps, as nearest neighbours do, is stored in any case.)

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
    return save_to(as_path(folder), estimator, include_memory=include_memory)


def save_to(
    folder: Path, estimator: Any, *, include_memory: bool = True, disk: Disk = DISK
) -> Path:
    """Save by way of a given disk; see `save`."""
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
    with FileSet(folder, HEAD, parts_of=named_parts, is_part=is_part, disk=disk) as files:
        hashes = _write_parts(files, encoder)
        model = {
            "format": FORMAT,
            "version": VERSION,
            "class": type(estimator).__name__,
            "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "versions": package_versions(_PACKAGES),
            "files": hashes,
            "model": tree,
        }
        card = model_card(estimator, model, include_memory=include_memory)
        files.commit(encode_head(model), {CARD: card.encode("utf-8", "replace")})
    return folder


def _write_parts(files: FileSet, encoder: Encoder) -> dict[str, str]:
    """Write arrays, weights and scikit-learn parts; return their names and hashes."""
    hashes = {}

    def write(stem: str, suffix: str, data: bytes | memoryview) -> None:
        sha = sha256(data)
        name = part_name(stem, suffix, sha)
        files.write(name, data)
        hashes[name] = sha

    if encoder.arrays:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **encoder.arrays)
        write("arrays", ".npz", buffer.getbuffer())
    if encoder.tensors:
        import safetensors.torch

        # safetensors refuses tensors that share memory.
        separate = {name: tensor.clone() for name, tensor in encoder.tensors.items()}
        write("weights", ".safetensors", safetensors.torch.save(separate))
    for name, data in encoder.skops.items():
        write(name, ".skops", data)
    return hashes


def _refuse_foreign(folder: Path) -> None:
    """Refuse to write over what `save` did not write."""
    # A card is put in place after its model: asked for first, it is never found alone.
    found = [folder / name for name in (CARD, HEAD) if (folder / name).exists()]
    path = found[-1] if found else None
    if path is not None and not _is_own_head(path):
        raise DataError(
            f"{path} was not written by this package, and would be replaced. Save to another "
            f"folder, such as {folder / 'model'}, or move the file away."
        )


def _is_own_head(path: Path) -> bool:
    with path.open("rb") as file:
        return path.name == HEAD and FORMAT.encode() in file.read(200)


def hash_of(folder: str | os.PathLike[str]) -> str:
    """Return what tells a saved model from every other: the SHA-256 of its head.

    The head names the hashes of all other files.

    Parameters
    ----------
    folder : path-like
        As of `save`.

    Raises
    ------
    ModelFileError
        If there is no saved model.
    """
    try:
        return sha256((as_path(folder) / HEAD).read_bytes())
    except OSError as error:
        raise ModelFileError(f"{folder} holds no saved model: {error.strerror}.") from error


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
    return load_as(
        None,
        folder,
        estimator=estimator,
        memory=memory,
        query_strategy=query_strategy,
        trusted=trusted,
    )


def load_as(
    expected: str | None,
    folder: str | os.PathLike[str],
    *,
    estimator: Any = None,
    memory: tuple[Any, Any] | None = None,
    query_strategy: Any = None,
    trusted: Iterable[str] | None = (),
) -> Any:
    """Load an estimator of the class that is expected, or of any; see `load`."""
    folder = as_path(folder)
    memory = None if memory is None else _as_memory(memory)
    model, parts = read_files(folder)
    known = model["class"]
    if expected not in (None, known):
        raise ModelFileError(
            f"{folder} holds a model of class {known}, not {expected}; use {known}.load or "
            "aift_sklearn.load."
        )
    trusted = [trusted] if isinstance(trusted, str) else trusted
    decoder = Decoder(
        *_opened(folder, parts),
        estimator=estimator,
        memory=memory,
        query_strategy=query_strategy,
        trusted=tuple(trusted or ()),
    )
    with raised_as_damage(folder / HEAD):
        loaded = decoder.decode(model["model"])
    if type(loaded).__name__ != known:
        raise ModelFileError(
            f"{folder / HEAD} is damaged: it holds a {type(loaded).__name__}, and says {known!r}."
        )
    if memory is not None and not decoder.used_memory:
        raise ParameterError(
            f"memory was given, and {folder} has no use for it: the model was saved with what it "
            "was taught, or was taught nothing. Call load without memory."
        )
    return loaded


def _opened(
    folder: Path, parts: dict[str, bytes]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """Arrays, weights and scikit-learn parts, as a `Decoder` takes them."""
    arrays: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    skops: dict[str, bytes] = {}
    for name, data in parts.items():
        with raised_as_damage(folder / name):
            if name.endswith(".npz"):
                with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                    arrays = dict(archive)
            elif name.endswith(".safetensors"):
                import safetensors.torch

                tensors = safetensors.torch.load(data)
            else:
                skops[name.partition("-")[0]] = data
    return arrays, tensors, skops


def _as_memory(memory: Any) -> tuple[Any, Any]:
    if isinstance(memory, (tuple, list)) and len(memory) == 2:
        X, y = (np.asarray(part) for part in memory)
        if X.ndim and y.ndim == 1 and len(X) == len(y):
            return X, y
    raise ParameterError(
        f"memory is {memory!r:.80}; expected the pair (X, y) of as many candidates as labels."
    )
