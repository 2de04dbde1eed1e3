"""Learners in folders, and what is said of a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ParameterError
from ..learner import AIFTLearner
from ..persistence import load
from ..pools.image_headers import list_some
from .rounds import Learnt

__all__ = ["describe_learnt", "open_learner", "open_scored", "options_of"]


def open_learner(folder: Path | None, trusted: Iterable[str] | None = None) -> AIFTLearner | None:
    """Load a learner, or None where there is no such folder yet.

    Raises
    ------
    ParameterError
        If what was saved there is no learner.
    """
    if folder is None or not folder.exists():
        return None
    found = load(folder, trusted=trusted)
    if not isinstance(found, AIFTLearner):
        raise ParameterError(
            f"{folder} holds a model of class {type(found).__name__}; expected an AIFTLearner, as "
            "'aift learn' saves it. Name another folder to begin a new one."
        )
    return found


def open_scored(
    path: Path, size: int | None, trusted: Iterable[str] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Open what is to score a pool, and tell how the pool is read.

    Parameters
    ----------
    path : Path
        Folder of a saved model, or an .onnx file.
    size : int or None
        What the user asks for.
    trusted : iterable of str, optional
        As of `load`.

    Returns
    -------
    model : AIFTLearner, AIFTClassifier or Path
        As `score_pool` takes it.
    options : dict
        Of `open_sized`: candidates are as large as those that the model was taught.
    """
    if path.suffix == ".onnx":
        from ..onnx.file import FileSource

        _, height, width = FileSource(path).image_shape
        return path, _sized({"size": height} if height == width else {}, size)
    model = load(path, trusted=trusted)
    taught = dict(getattr(model, "read_as_", {}))
    memory = getattr(model, "memory_", getattr(getattr(model, "estimator", None), "memory_", None))
    shape: tuple[int, ...] = getattr(getattr(memory, "X", None), "shape", ())
    if not taught and len(shape) == 4 and shape[2] == shape[3]:
        taught = {"size": int(shape[2])}
    return model, _sized(taught, size)


def options_of(learner: AIFTLearner | None, size: int | None) -> dict[str, Any]:
    """Options by which a pool is opened as it was when a learner was taught.

    Parameters
    ----------
    learner : AIFTLearner or None
        As of `learn_labels`.
    size : int or None
        What the user asks for.

    Raises
    ------
    ParameterError
        If the user asks for another size than the learner was taught.
    """
    return _sized(dict(getattr(learner, "read_as_", {})), size)


def _sized(taught: dict[str, Any], size: int | None) -> dict[str, Any]:
    was = taught.get("size")
    if size is not None and was is not None and size != was:
        raise ParameterError(
            f"size={size}, and the model was taught candidates of {was} pixels; leave it out, or "
            "begin a new model in another folder."
        )
    return taught if size is None else {**taught, "size": size}


def describe_learnt(learnt: Learnt, folder: Path) -> list[str]:
    """Say what a round taught, in lines."""
    counts = Counter(str(label) for label in learnt.learner.y_training)
    listed = ", ".join(f"{n} {label}" for label, n in counts.most_common())
    lines = [f"{learnt.n_labels} labels, {learnt.n_new} of them new: {listed}."]
    if learnt.n_foreseen is not None:
        lines.append(
            f"{learnt.n_foreseen} of the {learnt.n_new} new ones were predicted before they were "
            "taught; they were chosen because they are hard, so this is no measure of the model."
        )
    if learnt.anew:
        lines.append(f"Trained anew, on all labels: {learnt.anew}.")
    if learnt.left_out:
        lines.append(
            f"{len(learnt.left_out)} labelled ids are not in the pool or cannot be read: "
            f"{list_some(learnt.left_out)}."
        )
    if learnt.kept:
        lines.append(
            f"{len(learnt.kept)} that were taught before cannot be read now; the model remembers "
            f"them: {list_some(learnt.kept)}."
        )
    if len(counts) < 2:
        lines.append("One class so far: label others too before the model can tell them apart.")
    lines.append(f"Model: {folder}")
    return lines
