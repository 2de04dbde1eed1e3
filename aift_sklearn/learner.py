"""AIFTLearner: modAL's ActiveLearner with continual fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from modAL.models import ActiveLearner
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ._candidates import join, pick_rows
from ._checks import check_known_labels, check_option, undone_on_error
from ._saving import SaveMixin
from ._warnings import warn_caller
from .errors import (
    DataError,
    LabelError,
    ParameterError,
    TrainingInterrupted,
    TrainingWarning,
)
from .learning.weights import accepts_weights, embeds_alike
from .memory import Memory
from .pools.base import Pool, broken_items
from .query import aift_sampling
from .query.places import PoolPlaces
from .query.pool import random_generator

__all__ = ["AIFTLearner"]


class AIFTLearner(SaveMixin, ActiveLearner):
    """Ask, be taught, ask again: a modAL learner whose model keeps what it learnt.

    modAL's ActiveLearner calls ``fit`` in every `teach`, which restarts from the pre-trained
    weights. This one calls ``partial_fit``, which continues, and replays what the estimator's
    ``replay`` says; as a member of modAL's Committee too.

    Parameters
    ----------
    estimator : AIFTClassifier or any classifier
        What learns. Without ``partial_fit`` it is fitted anew on all labels.
    query_strategy : callable, default=aift_sampling
        Any modAL strategy, f(learner, X_pool, n_instances, ...).
    X_training, y_training : array-like, optional
        Labels known at the start; the estimator is fitted to them.
    bootstrap_init : bool, default=False
        Fit to a bootstrap sample of them.
    on_transformed : bool, default=False
        As of modAL: strategies that measure distances do so after a pipeline's transformations.
    force_all_finite : bool, default=True
        As of modAL.
    random_state : int, RandomState, Generator or None, default=None
        Seeds bootstrap samples. With a whole number every draw is another, and a campaign that is
        repeated draws the same; give each member of a Committee its own. None draws from NumPy's
        global generator, as modAL does.
    pool_weights : bool or "auto", default="auto"
        Weight each labelled candidate in training by the share of the pool that lies nearest to
        it, among embeddings by the model before it was taught. What was asked for is no random
        sample of the pool; weighted so, it stands for it. The pool is that of the last `query`, or
        of `set_pool`; weights are brought up to date in every `teach`. "auto" does so for an
        `AIFTClassifier` whose pipeline begins with pre-trained `CNNFeatures`, and for no other: a
        CNN that is fine-tuned learnt no better for it. Without effect for estimators that take no
        ``sample_weight``, before a pool is known, and from the first call on that gives weights,
        until `fit`. Of pools above 16,384 candidates a sample is embedded.

    Attributes
    ----------
    X_training : ndarray, DataFrame or sparse matrix, or None
        All candidates taught so far, as the first of them came; later ones are converted.
    y_training : ndarray or None
        Their labels.

    Examples
    --------
    >>> import numpy as np
    >>> from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier
    >>> X = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    >>> cnn = CNNClassifier(trainable="head", max_epochs=1)
    >>> classifier = AIFTClassifier(
    ...     cnn, patches=AffinePatches(4), classes=["benign", "malignant"], random_state=0
    ... )
    >>> learner = AIFTLearner(classifier)
    >>> indices, images = learner.query(X, n_instances=3, random_state=0)
    >>> learner.teach(images, ["benign", "malignant", "benign"])
    >>> learner.y_training.tolist()
    ['benign', 'malignant', 'benign']
    """

    X_training: Any
    y_training: Any
    # For learners that were saved without it.
    random_state: Any = None
    # The last labels of these, which no training has used yet.
    _n_untaught: int = 0
    # Whether the estimator has learnt from labels that are not among these.
    _labels_lack: bool = False
    _n_bootstraps: int = 0
    pool_weights: bool | Literal["auto"] = False
    # Embeddings of the pool for which labels stand; not stored.
    _transient = ("_places", "_stands_for_one_pool")
    _places: PoolPlaces | None = None
    _stands_for_one_pool: bool = False
    # Whether labels were given weights by whoever taught them.
    _are_given_weights: bool = False

    def __init__(
        self,
        estimator: Any,
        query_strategy: Callable[..., Any] = aift_sampling,
        X_training: Any = None,
        y_training: Any = None,
        bootstrap_init: bool = False,
        on_transformed: bool = False,
        force_all_finite: bool = True,
        random_state: Any = None,
        pool_weights: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(estimator, query_strategy, on_transformed=on_transformed)
        self.bootstrap_init = bootstrap_init
        self.force_all_finite = force_all_finite
        self.random_state = random_state
        self.pool_weights = pool_weights
        if X_training is not None:
            self.fit(X_training, y_training, bootstrap=bootstrap_init)

    def __sklearn_clone__(self) -> AIFTLearner:
        """Clone the learner without what it was taught."""
        has_params = hasattr(self.query_strategy, "get_params")
        return type(self)(
            clone(self.estimator),
            clone(self.query_strategy) if has_params else self.query_strategy,
            bootstrap_init=self.bootstrap_init,
            on_transformed=self.on_transformed,
            force_all_finite=self.force_all_finite,
            random_state=clone(self.random_state, safe=False),
            pool_weights=self.pool_weights,
        )

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        return str(BaseEstimator.__repr__(self._summarised(), N_CHAR_MAX))

    def _repr_html_inner(self) -> Any:
        return super(AIFTLearner, self._summarised())._repr_html_inner()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return super(AIFTLearner, self._summarised())._repr_mimebundle_(**kwargs)

    def _summarised(self) -> AIFTLearner:
        """Copy the learner with shapes and counts in place of what it was taught."""
        shown = copy.copy(self)
        if self.X_training is not None:
            shown.X_training = _Summary.of_candidates(self.X_training)
            shown.y_training = _Summary.of_labels(self.y_training)
        return shown

    def query(
        self, X_pool: Any, *query_args: Any, return_metrics: bool = False, **query_kwargs: Any
    ) -> tuple[Any, ...]:
        """Ask for the candidates whose labels are worth most.

        Parameters
        ----------
        X_pool : array-like of shape (n, ...)
            Unlabelled candidates; anything that has a shape and takes indices will do, a `Pool`
            of files above all: what turns out not to be readable is not asked for, and is in its
            ``broken`` afterwards.
        *query_args, **query_kwargs
            Handed to the query strategy, ``n_instances`` above all.
        return_metrics : bool, default=False
            Return the strategy's scores too, as modAL does from 0.4.2 on.

        Returns
        -------
        indices : ndarray of shape (b,)
            Which candidates.
        candidates : ndarray of shape (b, ...)
            The candidates themselves.
        metrics : ndarray of shape (b,) or None
            Their scores, with ``return_metrics`` and where the strategy gives them.
        """
        if not isinstance(X_pool, Pool):
            indices, rows, metrics = self._query(X_pool, *query_args, **query_kwargs)
            return (indices, rows, metrics) if return_metrics else (indices, rows)
        pool, groups = X_pool.sound(), query_kwargs.pop("groups", None)
        while True:
            places = np.flatnonzero(np.isin(X_pool.ids, pool.ids))
            if groups is not None:
                # Of another length, the strategy refuses them.
                all_match = len(groups) == len(X_pool)
                query_kwargs["groups"] = np.asarray(groups)[places] if all_match else groups
            indices, rows, metrics = self._query(pool, *query_args, **query_kwargs)
            if not len(broken_items(pool)):
                break
            # Zeros stood in the place of what could not be read.
            pool = pool.sound()
        return (places[indices], rows, metrics) if return_metrics else (places[indices], rows)

    def _query(self, X_pool: Any, *query_args: Any, **query_kwargs: Any) -> tuple[Any, Any, Any]:
        """Ask once: positions, candidates, and scores where the strategy gives them."""
        if not self._stands_for_one_pool:
            self._places = None
            if self._weighs():
                self._places = PoolPlaces(self.estimator, X_pool)
        result = self.query_strategy(self, X_pool, *query_args, **query_kwargs)
        if self._places is not None and self._weighs():
            # Now, while the pool can be read, and not when an answer is waiting.
            self._places.embed_pool()
        # modAL from 0.4.2 on wants (indices, metrics) from a strategy, 0.4.1 indices.
        indices, metrics = result if isinstance(result, tuple) else (result, None)
        indices = np.asarray(indices)
        return indices, pick_rows(X_pool, indices), metrics

    def set_pool(self, X_pool: Any) -> AIFTLearner:
        """Tell for which pool the labels stand, from now on, whatever is queried.

        A pool that shrinks with every query is embedded anew each time; this one once, now. Copies
        of the learner, and saved ones, do not know it.

        Parameters
        ----------
        X_pool : array-like of shape (n, ...)
            All candidates, labelled ones among them or not.

        Returns
        -------
        AIFTLearner
            Itself.
        """
        places = PoolPlaces(self.estimator, X_pool)
        if self._weighs():
            places.embed_pool()
            while len(broken_items(places.X_pool)):
                places = PoolPlaces(self.estimator, places.X_pool.sound())
                places.embed_pool()
        self._places, self._stands_for_one_pool = places, True
        return self

    def teach(
        self,
        X: Any,
        y: Any,
        bootstrap: bool = False,
        only_new: bool = False,
        **fit_kwargs: Any,
    ) -> None:
        """Continue training on newly labelled candidates; keep them once they were accepted.

        Parameters
        ----------
        X : array-like of shape (b, ...)
            Candidates that were asked for.
        y : array-like of shape (b,)
            Their classes.
        bootstrap : bool, default=False
            Train on a bootstrap sample of them, drawn by the learner's ``random_state``.
        only_new : bool, default=False
            For an estimator without ``partial_fit``: fit it to these alone, unless they are all of
            one class: it then stays as it was, with a warning. One with it is handed these alone
            in any case, and replays what its ``replay`` says.
        **fit_kwargs
            Handed to the estimator's ``partial_fit`` or ``fit``.

        Raises
        ------
        TrainingInterrupted
            On Ctrl-C after at least one epoch of training: these labels are kept, and the weights
            of the last finished epoch. After an earlier Ctrl-C, teach them again.
        """
        before = self.X_training, self.y_training, self._n_untaught
        try:
            self._add_training_data(X, y)
            if only_new:
                self._fit_on_new(X, y, bootstrap=bootstrap, **fit_kwargs)
            else:
                self._fit_to_known(bootstrap=bootstrap, **fit_kwargs)
        except TrainingInterrupted:
            # The estimator remembers these labels, and so does the learner.
            raise
        except BaseException:
            self.X_training, self.y_training, self._n_untaught = before
            raise

    def fit(self, X: Any, y: Any, bootstrap: bool = False, **fit_kwargs: Any) -> AIFTLearner:
        """Forget all that was taught, and start from these labels.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Candidates.
        y : array-like of shape (n,)
            Their classes.
        bootstrap : bool, default=False
            Train on a bootstrap sample of them, drawn by the learner's ``random_state``.
        **fit_kwargs
            Handed to the estimator's ``fit``.

        Returns
        -------
        AIFTLearner
            Itself.
        """
        before = self.X_training, self.y_training, self._n_untaught
        X, y = _as_taught(X, y)
        was_given = self._are_given_weights
        try:
            self.X_training, self.y_training, self._n_untaught = X, y, 0
            self._are_given_weights = False
            self._learn(self.estimator.fit, X, y, bootstrap, fit_kwargs)
            self._labels_lack = False
        except TrainingInterrupted:
            self._labels_lack = False
            raise
        except BaseException:
            self.X_training, self.y_training, self._n_untaught = before
            self._are_given_weights = was_given
            raise
        return self

    # --- what modAL's Committee calls of its members ------------------------------------------

    def _add_training_data(self, X: Any, y: Any) -> None:
        """Keep labelled candidates for the next training."""
        X, y = _as_taught(X, y, like=self.X_training)
        self._check_labels(y)
        if self.X_training is not None:
            self.X_training = _appended(self.X_training, X)
            self.y_training = np.concatenate([np.asarray(self.y_training), y])
        else:
            self.X_training, self.y_training = X, y
        self._n_untaught += len(y)

    def _check_labels(self, y: NDArray[Any]) -> None:
        """Refuse a class that an AIFTClassifier will refuse, before anything has changed.

        All members of a Committee keep the labels before the first of them trains.
        """
        classes = getattr(self.estimator, "classes_", getattr(self.estimator, "classes", None))
        if classes is None or not hasattr(self.estimator, "score_candidates"):
            return
        try:
            check_known_labels(y, np.asarray(list(classes)))
        except TypeError:
            # Labels of mixed types; the estimator says so.
            return

    def _fit_to_known(self, bootstrap: bool = False, **fit_kwargs: Any) -> AIFTLearner:
        """Train on what was added, or anew on all where nothing was, or nothing is kept."""
        X, y, learn = self.X_training, np.asarray(self.y_training), self.estimator.fit
        if X is None:
            raise ParameterError(
                "there are no labelled candidates to fit to. Teach some first; those of a learner "
                "that was saved without them are supplied by load(folder, memory=(X, y))."
            )
        lacks = self._labels_lack or (self._n_untaught == len(y) and _is_fitted(self.estimator))
        continues = self._continues(fit_kwargs) and self._n_untaught > 0
        if continues:
            X, y = _rows(X, slice(-self._n_untaught, None)), y[-self._n_untaught :]
            learn = self.estimator.partial_fit
        elif lacks:
            self._miss_labels(len(y))
        self._labels_lack = lacks
        try:
            self._learn(learn, X, y, bootstrap, fit_kwargs)
        except TrainingInterrupted:
            self._labels_lack = lacks and continues
            raise
        self._labels_lack = lacks and continues
        return self

    def _miss_labels(self, n_known: int) -> None:
        """Say that labels are not here; refuse to forget them where nothing new was taught."""
        name = type(self.estimator).__name__
        reason = f"{name} has learnt from labels that are not here"
        if not self._n_untaught:
            raise ParameterError(
                f"{reason}, and would be fitted anew to these {n_known} alone. After a load "
                "without memory, call fit with all labels."
            )
        warn_caller(
            f"{reason}, and has no partial_fit: it is fitted anew to these {n_known} alone. After "
            "a load without memory, teach all labels again; give a fitted estimator's as "
            "X_training and y_training.",
            TrainingWarning,
        )

    def _fit_on_new(
        self, X: Any, y: Any, bootstrap: bool = False, **fit_kwargs: Any
    ) -> AIFTLearner:
        """Train on these alone; an estimator that continues replays what its ``replay`` says."""
        if self._continues(fit_kwargs) and self._n_untaught:
            return self._fit_to_known(bootstrap, **fit_kwargs)
        X, y = _as_taught(X, y, like=self.X_training)
        continues = self._continues(fit_kwargs)
        if not continues and self._stays_as_it_was(y):
            # What it was fitted to before the first of all labels is still not here.
            self._labels_lack = self._labels_lack or self._n_untaught == len(self.y_training)
            self._n_untaught = 0
            return self
        learn = self.estimator.partial_fit if continues else self.estimator.fit
        self._learn(learn, X, y, bootstrap, fit_kwargs)
        return self

    def _stays_as_it_was(self, y: NDArray[Any]) -> bool:
        """Whether these labels, of one class alone, are not fitted to; says what is forgotten."""
        known = getattr(self.estimator, "classes_", None) if _is_fitted(self.estimator) else None
        if known is None or y.ndim != 1:
            return False
        given = np.unique(y)
        forgotten = np.setdiff1d(known, given).tolist()
        stays = bool(forgotten) and len(given) == 1
        if forgotten:
            warn_caller(
                f"{type(self.estimator).__name__} has no partial_fit, and the new labels are all "
                f"of {given.tolist()}: it "
                f"{'stays as it was' if stays else f'forgets {forgotten}'}. The labels are kept; "
                "without only_new it is fitted to all of them.",
                TrainingWarning,
            )
        return stays

    def _continues(self, fit_kwargs: dict[str, Any]) -> bool:
        if not hasattr(self.estimator, "partial_fit"):
            return False
        return _is_fitted(self.estimator) or "classes" in fit_kwargs

    def _learn(
        self,
        learn: Callable[..., Any],
        X: Any,
        y: NDArray[Any],
        bootstrap: bool,
        fit_kwargs: dict[str, Any],
    ) -> None:
        """Train; labels that are refused are kept no longer, so that the next are accepted."""
        before, known = getattr(self.estimator, "memory_", None), None
        was_given = self._are_given_weights
        try:
            self._are_given_weights |= fit_kwargs.get("sample_weight") is not None
            fit_kwargs, known = self._weighed(learn, X, fit_kwargs)
            if bootstrap:
                drawn = self._bootstrap(len(y))
                X, y = pick_rows(X, drawn), y[drawn]
                weight = fit_kwargs.get("sample_weight")
                if weight is not None:
                    fit_kwargs = {**fit_kwargs, "sample_weight": np.asarray(weight)[drawn]}
            with undone_on_error(self.estimator):
                if known is not None:
                    self.estimator.memory_ = known
                learn(X, y, **fit_kwargs)
        except TrainingInterrupted:
            self._n_untaught = 0
            raise
        except BaseException:
            self._are_given_weights = was_given
            if known is not None:
                self.estimator.memory_ = before
            n_kept = len(self.y_training) - self._n_untaught
            self.X_training = _rows(self.X_training, slice(n_kept)) if n_kept else None
            self.y_training = self.y_training[:n_kept] if n_kept else None
            self._n_untaught = 0
            raise
        self._n_untaught = 0

    def _weighed(
        self, learn: Callable[..., Any], X: Any, fit_kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], Memory | None]:
        """Weights of what is taught, and the estimator's memory with weights brought up to date."""
        if self._places is None or self._are_given_weights or not self._weighs():
            return fit_kwargs, None
        memory = getattr(self.estimator, "memory_", None)
        continues = learn == getattr(self.estimator, "partial_fit", None)
        if memory is None or not continues:
            return {**fit_kwargs, "sample_weight": self._places.shares(X)}, None
        shares = self._places.shares(join(np.asarray(memory.X), np.asarray(X)))
        n = len(memory.y)
        known = memory._replace(sample_weight=shares[:n])
        return {**fit_kwargs, "sample_weight": shares[n:]}, known

    def _weighs(self) -> bool:
        """Whether labels are weighted by their share of the pool."""
        check_option("pool_weights", self.pool_weights, (True, False, "auto"))
        if not self.pool_weights or not accepts_weights(self.estimator):
            return False
        return self.pool_weights != "auto" or embeds_alike(self.estimator)

    def _bootstrap(self, n: int) -> NDArray[np.intp]:
        if self.random_state is None:
            return np.random.randint(n, size=n)  # noqa: NPY002
        seed = self.random_state
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed), self._n_bootstraps]
            self._n_bootstraps += 1
        return random_generator(seed).integers(n, size=n)


def _is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


class _Summary:
    """What a learner was taught, in a few words."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"

    @classmethod
    def of_candidates(cls, X: Any) -> _Summary:
        if isinstance(X, cls):
            return X
        kind = getattr(X, "dtype", type(X).__name__)
        return cls(f"{X.shape[0]} candidates of shape {tuple(X.shape[1:])}, {kind}")

    @classmethod
    def of_labels(cls, y: Any) -> _Summary:
        if isinstance(y, cls):
            return y
        labels = np.asarray(y)
        try:
            classes, counts = np.unique(labels, return_counts=True)
        except TypeError:
            classes, counts = np.array([]), np.array([])
        if labels.ndim != 1 or not 0 < len(classes) <= 5:
            return cls(f"labels of shape {labels.shape}")
        return cls(", ".join(f"{n} {name}" for name, n in zip(classes, counts, strict=True)))


def _as_taught(X: Any, y: Any, like: Any = None) -> tuple[Any, NDArray[Any]]:
    """Copy labelled candidates, in the form in which those taught before are kept."""
    y = np.array(y)
    y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
    X = _in_the_form_of(like, X)
    if not X.shape or X.shape[:1] != y.shape[:1]:
        raise LabelError(
            f"X has shape {tuple(X.shape)} and y has shape {y.shape}; expected one label per "
            "candidate, in the same order."
        )
    return X, y


def _in_the_form_of(like: Any, X: Any) -> Any:
    if like is None and (hasattr(X, "iloc") or sp.issparse(X)):
        return X.tocsr(copy=True) if sp.issparse(X) else X.copy()
    if sp.issparse(like):
        return type(like)(X)
    if hasattr(like, "iloc") and hasattr(X, "iloc"):
        return X.copy()
    if sp.issparse(X):
        X = X.toarray()
    try:
        X = np.array(X)
    except ValueError as error:
        raise DataError(
            "the candidates differ in shape and do not form one array; crop or resize them to one "
            "shape (C, H, W) first."
        ) from error
    if hasattr(like, "iloc") and X.shape[1:] == like.shape[1:]:
        return type(like)(X, columns=like.columns)
    return X


def _appended(old: Any, new: Any) -> Any:
    """Append candidates to those taught before, which are of the same kind."""
    if sp.issparse(old):
        return sp.vstack([old, new], format="csr")
    if hasattr(old, "iloc"):
        import pandas as pd

        return pd.concat([old, new])
    return join(np.asarray(old), new)


def _rows(X: Any, part: slice) -> Any:
    return X.iloc[part] if hasattr(X, "iloc") else X[part]
