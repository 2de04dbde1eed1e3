"""What a call of `CNNClassifier` trains on, and how, checked and put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .._checks import check_groups, check_int, check_number, check_option, check_weights
from ..errors import ParameterError
from ._callbacks import SCHEDULES
from ._embedding import pick_device
from ._examples import Examples
from ._heldout import hold_out
from .training import Settings

__all__ = [
    "Taught",
    "begins_with_probe",
    "check_settings",
    "count_trained_blocks",
    "split_held_out",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Taught:
    """Checked images, classes, weights and groups of one call."""

    X: Array
    y: Array
    weight: Array | None
    groups: Array | None

    @classmethod
    def checked(cls, X: Array, y: Array, weight: Any, groups: Any) -> Self:
        """Check weights and groups, and leave out what weighs nothing."""
        weight = check_weights(weight, len(y))
        groups = check_groups(groups, len(y))
        if weight is None or weight.all():
            return cls(X, y, weight, groups)
        rows = np.flatnonzero(weight)
        return cls(X[rows], y[rows], weight[rows], None if groups is None else groups[rows])


def check_settings(cnn: Any, taught: Taught, classes: Array, *, first: bool) -> Settings:
    """Check the parameters that govern a training, and put them together.

    Parameters
    ----------
    cnn : CNNClassifier
        Holds the parameters.
    taught : Taught
        What the call teaches.
    classes : ndarray of shape (K,)
        All classes.
    first : bool
        Whether the network starts from its pre-trained weights.

    Returns
    -------
    Settings
        For `train`.

    Raises
    ------
    ParameterError
        If one is outside its range.
    """
    check_option("schedule", cnn.schedule, SCHEDULES)
    check_option("calibration", cnn.calibration, (None, "temperature"))
    patience = cnn.early_stopping
    if patience is not None:
        patience = check_int("early_stopping", patience, minimum=1)
    if not isinstance(cnn.callbacks, (list, tuple, type(None))):
        raise ParameterError(
            f"callbacks={cnn.callbacks!r}; expected a list of skorch callbacks, or None."
        )
    factor = check_number("continued_lr_factor", cnn.continued_lr_factor, low=0)
    head_factor = cnn.head_lr_factor
    if head_factor is not None:
        head_factor = check_number("head_lr_factor", head_factor, low=0)
    return Settings(
        lr=check_number("lr", cnn.lr, low=0) * (1.0 if first else factor),
        head_lr_factor=head_factor,
        max_epochs=check_int("max_epochs", cnn.max_epochs, minimum=1),
        batch_size=check_int("batch_size", cnn.batch_size, minimum=1),
        weight_decay=check_number("weight_decay", cnn.weight_decay, low=0),
        max_grad_norm=check_number("max_grad_norm", cnn.max_grad_norm, low=0),
        class_weight=_class_weight(cnn.class_weight, taught, classes),
        schedule=cnn.schedule,
        early_stopping=patience,
        calibrate=cnn.calibration is not None,
        callbacks=tuple(cnn.callbacks or ()),
        device=pick_device(cnn.device),
        verbose=cnn.verbose,
    )


def begins_with_probe(cnn: Any) -> bool:
    """Whether the head of a `CNNClassifier` is to begin as a linear probe."""
    check_option("linear_probe", cnn.linear_probe, (True, False))
    return bool(cnn.linear_probe and cnn.pretrained)


def _class_weight(wanted: Any, taught: Taught, classes: Array) -> NDArray[np.float32] | None:
    """Weights under which the candidates of each class weigh the same in all."""
    check_option("class_weight", wanted, (None, "balanced"))
    if wanted is None:
        return None
    codes = np.searchsorted(classes, taught.y)
    total = np.bincount(codes, weights=taught.weight, minlength=len(classes))
    present = total > 0
    weight = np.ones(len(classes), dtype=np.float32)
    weight[present] = total.sum() / (present.sum() * total[present])
    return weight


def count_trained_blocks(trainable: Any) -> int | None:
    """How many of the last blocks are trained, None for all, of what `CNNClassifier` takes.

    Examples
    --------
    >>> count_trained_blocks("head"), count_trained_blocks("all"), count_trained_blocks(3)
    (0, None, 3)
    """
    if isinstance(trainable, str):
        check_option("trainable", trainable, ("all", "head"))
        return None if trainable == "all" else 0
    return check_int("trainable", trainable, minimum=0)


def split_held_out(
    cnn: Any, taught: Taught, classes: Array, rng: np.random.Generator, *, hold: bool
) -> tuple[Examples, Examples | None]:
    """What is trained on, and what is held out of it.

    Parameters
    ----------
    cnn : CNNClassifier
        Says how much is held out, and how images are augmented.
    taught : Taught
        All of the call.
    classes : ndarray of shape (K,)
        All classes.
    rng : numpy Generator
        Draws what is held out.
    hold : bool
        Whether anything is.

    Returns
    -------
    learnt, held_out : Examples
        The second is None where nothing is held out.
    """
    views = check_int("augmentation_views", cnn.augmentation_views, minimum=1)
    fraction = check_number("validation_fraction", cnn.validation_fraction, low=0, high=0.9)
    codes = np.searchsorted(classes, taught.y).astype(np.int64)
    # Slices, which copy no image.
    kept: Any = slice(None)
    held: Any = slice(0)
    if hold:
        kept, held = hold_out(codes, fraction, rng, taught.groups)

    def weights(rows: Any) -> Array | None:
        part = None if taught.weight is None else taught.weight[rows]
        return None if part is None else part / part.mean()

    learnt = Examples(taught.X[kept], codes[kept], weights(kept), cnn.augmentation, views)
    if len(codes[held]) == 0:
        return learnt, None
    whole = getattr(cnn.augmentation, "transform_whole", np.asarray)
    return learnt, Examples(whole(taught.X[held]), codes[held], weights(held))
