"""AIFTLearner: modAL's ActiveLearner with continual fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from modAL.models import ActiveLearner
from modAL.utils.data import data_vstack
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ._candidates import join, pick_rows
from .errors import TrainingInterrupted
from .persistence import SaveMixin
from .query import aift_sampling

__all__ = ["AIFTLearner"]


class AIFTLearner(SaveMixin, ActiveLearner):
    """Ask, be taught, ask again: a modAL learner whose model keeps what it learnt.

    modAL's ActiveLearner calls ``fit`` in every `teach`, which restarts from the pre-trained
    weights. This one calls ``partial_fit``, which continues, and replays what the estimator's
    ``replay`` says.

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

    Attributes
    ----------
    X_training, y_training : ndarray or None
        All candidates and labels taught so far.

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

    def __init__(
        self,
        estimator: Any,
        query_strategy: Callable[..., Any] = aift_sampling,
        X_training: Any = None,
        y_training: Any = None,
        bootstrap_init: bool = False,
        on_transformed: bool = False,
        force_all_finite: bool = True,
    ) -> None:
        # Stored here, since modAL does not keep it and `clone` and `repr` ask for it.
        self.bootstrap_init = bootstrap_init
        super().__init__(
            estimator,
            query_strategy,
            X_training,
            y_training,
            bootstrap_init,
            on_transformed,
        )
        self.force_all_finite = force_all_finite

    def __sklearn_clone__(self) -> AIFTLearner:
        """Clone the learner without what it was taught."""
        return type(self)(
            clone(self.estimator),
            self.query_strategy,
            bootstrap_init=self.bootstrap_init,
            on_transformed=self.on_transformed,
            force_all_finite=self.force_all_finite,
        )

    def query(
        self, X_pool: Any, *query_args: Any, return_metrics: bool = False, **query_kwargs: Any
    ) -> tuple[Any, ...]:
        """Ask for the candidates whose labels are worth most.

        Parameters
        ----------
        X_pool : array-like of shape (n, ...)
            Unlabelled candidates; anything that has a shape and takes indices will do.
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
        result = self.query_strategy(self, X_pool, *query_args, **query_kwargs)
        # modAL from 0.4.2 on wants (indices, metrics) from a strategy, 0.4.1 indices.
        indices, metrics = result if isinstance(result, tuple) else (result, None)
        indices = np.asarray(indices)
        rows = pick_rows(X_pool, indices)
        return (indices, rows, metrics) if return_metrics else (indices, rows)

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
            Train on a bootstrap sample, drawn by NumPy's global generator as modAL does.
        only_new : bool, default=False
            For an estimator without ``partial_fit``: fit it to these alone. One with it is handed
            these alone in any case, and replays what its ``replay`` says.
        **fit_kwargs
            Handed to the estimator's ``partial_fit`` or ``fit``.

        Raises
        ------
        TrainingInterrupted
            On Ctrl-C after at least one epoch of training: these labels are kept, and the weights
            of the last finished epoch. After an earlier Ctrl-C, teach them again.
        """
        y = np.array(y)
        all_X, all_y = X, y
        if self.X_training is None:
            all_X = X if hasattr(X, "iloc") or hasattr(X, "tocsr") else np.array(X)
        else:
            all_X = _append(self.X_training, X)
            all_y = np.concatenate([np.asarray(self.y_training), y])
        continues = hasattr(self.estimator, "partial_fit")
        train_X, train_y = (X, y) if continues or only_new else (all_X, all_y)
        if bootstrap:
            rows = np.random.randint(len(train_y), size=len(train_y))  # noqa: NPY002
            train_X, train_y = pick_rows(train_X, rows), train_y[rows]
        continuing = continues and (_is_fitted(self.estimator) or "classes" in fit_kwargs)
        learn = self.estimator.partial_fit if continuing else self.estimator.fit
        try:
            learn(train_X, train_y, **fit_kwargs)
        except TrainingInterrupted:
            # The estimator remembers these labels, and so does the learner.
            self.X_training, self.y_training = all_X, all_y
            raise
        self.X_training, self.y_training = all_X, all_y


def _is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _append(old: Any, new: Any) -> Any:
    """Append candidates to those taught before: arrays, frames or sparse matrices."""
    if hasattr(new, "iloc") or hasattr(new, "tocsr"):
        if hasattr(new, "tocsr"):
            return data_vstack([old, new])
        import pandas as pd

        return pd.concat([old, new])
    return join(np.asarray(old), np.array(new))
