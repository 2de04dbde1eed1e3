"""Data sets by what the command line takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._writing import as_path
from ..errors import ParameterError
from .archives import load_medmnist, load_npz
from .boxes import load_boxes
from .datasets import Dataset
from .folders import load_folder
from .fundus import load_fundus
from .lists import load_csv
from .tissue import load_tissue

__all__ = ["INSIDE", "open_dataset"]

INSIDE: dict[str, Callable[..., Dataset]] = {"tissue": load_tissue, "fundus": load_fundus}
"""Loaders of the pools that come with the package, by name."""


def open_dataset(source: str | Path, *, size: int | None = None, **options: Any) -> Dataset:
    """Open a data set by what the command line takes.

    Parameters
    ----------
    source : str or path-like
        "tissue"; "fundus"; a MedMNIST archive ``FILE.npz``; a list ``FILE.csv``; a folder with a
        subfolder per class; ``boxes:FOLDER`` for boxes in images; ``medmnist:NAME``.
    size : int, optional
        Height and width of the candidates, where they can be scaled.
    **options
        Of the loader: ``max_pool``, ``test_fraction``, ``random_state``, ``verbose`` ...

    Returns
    -------
    Dataset
        Pool and test set.

    Raises
    ------
    ParameterError
        If the source is none of these, or an option does not fit it.
    DataError
        If it cannot be read.

    Examples
    --------
    >>> open_dataset("tissue").n_candidates
    342
    """
    text = str(source)
    sized = {} if size is None else {"size": size}
    if text in INSIDE:
        options = {k: v for k, v in options.items() if k != "verbose" and v is not None}
        return _call(INSIDE[text], text, **sized, **options)
    kind, _, rest = text.partition(":")
    if kind == "boxes" and rest:
        return _call(load_boxes, text, as_path(rest), **sized, **options)
    if kind == "medmnist" and rest:
        options.pop("verbose", None)
        return _call(load_medmnist, text, rest, **sized, **options)
    path = as_path(text)
    if path.is_dir():
        return _call(load_folder, text, path, **sized, **options)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _call(load_csv, text, path, **sized, **options)
    if path.suffix.lower() == ".npz":
        options.pop("verbose", None)
        return _call(load_npz, text, path, **sized, **options)
    raise ParameterError(
        f"data {text!r} is not known; expected tissue, fundus, FILE.npz, FILE.csv, FOLDER with a "
        "subfolder per class, boxes:FOLDER, or medmnist:NAME"
        + ("." if path.exists() else " (there is no such file or folder).")
    )


def _call(load: Callable[..., Dataset], text: str, *args: Any, **options: Any) -> Dataset:
    try:
        return load(*args, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        name = str(error).split("'")[1]
        raise ParameterError(f"the option {name} does not apply to the data {text!r}.") from error
