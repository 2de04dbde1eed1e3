"""Ray datasets: candidates in, scores out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import errors
from .._checks import check_int
from ..batch_scoring import ShippedModel, pack_model
from ..errors import DataError, ParameterError
from ..pools.array_layout import Channels, Layout, plan_layout
from ..selection import check_n_instances
from .places import Places, find_places, import_ray
from .workers import ScoreBatches

__all__ = ["batches", "score_dataset", "score_with", "top_dataset"]

Array = NDArray[Any]
Batch = dict[str, Array]

# Candidates of a dataset that an actor is given at once: blocks may be as small as one.
_AT_ONCE = 1024


def score_dataset(
    dataset: Any,
    model: Any,
    *,
    image: str = "image",
    keep: Sequence[str] = ("id",),
    channels: Channels = "auto",
    embeddings: bool = False,
    actors: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    precision: str = "auto",
    **consistency: Any,
) -> Any:
    """Score the candidates of a Ray dataset.

    Parameters
    ----------
    dataset : ray.data.Dataset
        With a column of images of one shape, uint8 or float in [0, 1], such as
        ``ray.data.read_images(folder, size=(64, 64), include_paths=True)`` gives.
    model : AIFTClassifier, AIFTLearner or path-like
        Fitted; a path is that of an .onnx file of ``aift export`` or `OnnxScorer.save`.
    image : str, default="image"
        The column of candidates: (C, H, W), (H, W, C) or (H, W); (m, C, h, w); or (f,).
    keep : sequence of str, default=("id",)
        Columns that are handed on, by which the rows are known again: Ray keeps no order.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels of images lie, as of `ArrayPool`.
    embeddings : bool, default=False
        Whether whole candidates are embedded too.
    actors : int, optional
        How many score at once, at most; by default one for every GPU, or else for every core.
    num_cpus : float, optional
        Cores that Ray reckons for an actor: by default 0.75, so that a quarter is left to those
        that read. Actors that take all cores would wait for their candidates for ever, and are
        refused.
    num_gpus : float, optional
        GPUs of an actor, by default 1 where the cluster has any.
    precision : {"auto", "float32", "float16"}, default="auto"
        Of networks; "auto" is half where actors have GPUs, and single elsewhere.
    **consistency
        Parameters of `patch_consistency`.

    Returns
    -------
    ray.data.Dataset
        Lazy. Columns: those of ``keep``, ``score`` (float64, higher: label it sooner), ``proba``
        (K float32, the mean over the patches) and, where asked for, ``embedding`` (E float32).

    Raises
    ------
    DataError
        If a column is missing, or the candidates do not fit the model.
    ParameterError
        If actors would take all cores.
    MissingDependencyError
        If Ray is not installed.

    Notes
    -----
    A worker or a node that is lost costs what it was computing: Ray starts it again. Pools of
    files go through `score_pool`, which keeps what is finished. Ray's limits hold as they do for
    any dataset, such as ``ray.data.DataContext.get_current().execution_options.resource_limits``.

    Examples
    --------
    >>> import ray  # doctest: +SKIP
    >>> dataset = ray.data.from_items([{"id": k, "image": X[k]} for k in range(len(X))])
    ... # doctest: +SKIP
    >>> score_dataset(dataset, model).to_pandas()[["id", "score"]]  # doctest: +SKIP
    """
    import_ray()
    taken = sorted({"score", "proba", "embedding"} & set(keep))
    if taken:
        raise ParameterError(
            f"keep={list(keep)!r}, and {', '.join(taken)} is a column of the results; rename it: "
            "dataset.rename_columns."
        )
    found = _first_row(dataset, (image, *keep))[image]
    layout = (
        None if found.ndim not in (2, 3) else plan_layout((1, *found.shape), found.dtype, channels)
    )
    shape = found.shape if layout is None else layout.shape[1:]
    shipped = pack_model(model, shape, **consistency)
    if embeddings:
        shipped.check_embeds()
    places = find_places(actors, num_cpus, num_gpus)
    return score_with(
        dataset,
        shipped,
        places,
        shipped.precision(precision, half=bool(places.num_gpus)),
        image=image,
        keep=keep,
        layout=layout,
        embeddings=embeddings,
        batch_size=_AT_ONCE,
    )


def top_dataset(
    dataset: Any, model: Any, b: int, *, key: str = "id", **options: Any
) -> tuple[Array, NDArray[np.float64]]:
    """Find the b candidates of a Ray dataset with the highest scores.

    Parameters
    ----------
    dataset, model
        As of `score_dataset`.
    b : int
        How many.
    key : str, default="id"
        The column by which they are known; of candidates whose scores tie the one whose key comes
        first is taken.
    **options
        Others of `score_dataset`.

    Returns
    -------
    keys : ndarray of shape (b,)
        Highest score first.
    scores : ndarray of shape (b,), float64
        Their scores.

    Raises
    ------
    DataError
        If there are fewer than b candidates.
    """
    check_int("b", b, minimum=1)
    keys, scores = np.empty(0, dtype=object), np.empty(0)
    n = 0
    for batch in batches(score_dataset(dataset, model, keep=(key,), **options)):
        n += len(batch["score"])
        # Of millions hardly any can still be among the best.
        able = batch["score"] >= scores[-1] if len(scores) == b else slice(None)
        keys = np.concatenate([keys, batch[key][able].astype(object)])
        scores = np.concatenate([scores, batch["score"][able]])
        order = sorted(range(len(keys)), key=lambda k: (-scores[k], keys[k]))[:b]
        keys, scores = keys[order], scores[order]
    check_n_instances(b, n)
    return np.array(keys.tolist()), scores


def score_with(
    dataset: Any,
    model: ShippedModel,
    places: Places,
    precision: str,
    *,
    image: str,
    keep: Sequence[str],
    layout: Layout | None = None,
    embeddings: bool = False,
    batch_size: int | None = None,
) -> Any:
    """Score the candidates of a Ray dataset with a model that was packed; see `score_dataset`.

    An actor is given ``batch_size`` of them at once, or a block.
    """
    ray = import_ray()
    return dataset.map_batches(
        ScoreBatches,
        fn_constructor_args=(
            ray.put(model),
            image,
            tuple(keep),
            layout,
            embeddings,
            "auto" if places.num_gpus else "CPUExecutionProvider",
            precision,
        ),
        batch_size=batch_size,
        # With a fixed number, one that waits for a core which a lost node had would wait for ever:
        # others that are done give way to it.
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=places.actors,
            initial_size=places.actors,
            max_tasks_in_flight_per_actor=2,
        ),
        num_cpus=places.num_cpus,
        num_gpus=places.num_gpus or None,
    )


def batches(dataset: Any) -> Iterator[Batch]:
    """Compute a dataset, and yield its blocks as they come.

    What went wrong in a worker is raised as it was there.
    """
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            if batch:
                yield batch
    except import_ray().exceptions.RayError as error:
        raise _cause_of(error) from None


def _cause_of(error: BaseException) -> BaseException:
    """Return what a worker raised, of what Ray makes of it; or that, where nothing is known."""
    # The trace is all that is left of what actors raise.
    told = re.findall(r"^aift_sklearn\.errors\.(\w+): (.+)$", str(error), flags=re.MULTILINE)
    if told:
        name, text = told[-1]
        kind: type[Exception] = getattr(errors, name)
        with contextlib.suppress(TypeError):
            return kind(text)
        # One that wants to know more, such as which candidate.
        return DataError(text)
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception) and not isinstance(cause, import_ray().exceptions.RayError):
        return cause
    return error


def _first_row(dataset: Any, columns: Sequence[str]) -> Batch:
    """Return the first row of a dataset, which has these columns."""
    try:
        first = dataset.take_batch(1, batch_format="numpy")
    except ValueError as error:
        if "empty" not in str(error):
            raise
        raise DataError("the dataset is empty; expected at least one candidate.") from error
    missing = [name for name in columns if name not in first]
    if missing:
        raise DataError(
            f"the dataset has columns {sorted(first)}; expected {', '.join(missing)} among them. "
            "Name the column of candidates by image, and those to hand on by keep."
        )
    return {name: values[0] for name, values in first.items()}
