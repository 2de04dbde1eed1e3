"""Input checks, called at public entries only."""

from .arrays import as_array, image_shape, refuse_what_is_no_array
from .candidates import (
    candidate_shape,
    check_features,
    check_groups,
    check_images,
    check_weights,
    refuse_three_axes,
)
from .labels import (
    check_classes,
    check_known_labels,
    check_labels,
    check_same_classes,
    labels_of_classes,
)
from .numbers import check_int, check_number, check_option
from .rollback import restores_itself, unchanged_on_error, undone_on_error

__all__ = [
    "as_array",
    "candidate_shape",
    "check_classes",
    "check_features",
    "check_groups",
    "check_images",
    "check_int",
    "check_known_labels",
    "check_labels",
    "check_number",
    "check_option",
    "check_same_classes",
    "check_weights",
    "image_shape",
    "labels_of_classes",
    "refuse_three_axes",
    "refuse_what_is_no_array",
    "restores_itself",
    "unchanged_on_error",
    "undone_on_error",
]
