"""AIFTLearner: modAL's ActiveLearner with continual fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from modAL.models import ActiveLearner

from ._candidates import join
from .query import aift_sampling

__all__ = ["AIFTLearner"]


class AIFTLearner(ActiveLearner):
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

    def query(self, X_pool: Any, *query_args: Any, **query_kwargs: Any) -> tuple[Any, Any]:
        """Ask for the candidates whose labels are worth most.

        Parameters
        ----------
        X_pool : array-like of shape (n, ...)
            Unlabelled candidates; anything that has a shape and takes indices will do.
        *query_args, **query_kwargs
            Handed to the query strategy, ``n_instances`` above all.

        Returns
        -------
        indices : ndarray of shape (b,)
            Which candidates.
        candidates : ndarray of shape (b, ...)
            The candidates themselves.
        """
        result = self.query_strategy(self, X_pool, *query_args, **query_kwargs)
        # modAL from 0.4.2 on wants (indices, metrics) from a strategy, 0.4.1 indices.
        indices = np.asarray(result[0] if isinstance(result, tuple) else result)
        rows = getattr(X_pool, "iloc", X_pool)
        return indices, np.array(rows)[indices] if isinstance(rows, list) else rows[indices]

    def teach(
        self,
        X: Any,
        y: Any,
        bootstrap: bool = False,
        only_new: bool = False,
        **fit_kwargs: Any,
    ) -> None:
        """Continue training on newly labelled candidates.

        Parameters
        ----------
        X : array-like of shape (b, ...)
            Candidates that were asked for.
        y : array-like of shape (b,)
            Their classes.
        bootstrap : bool, default=False
            Train on a bootstrap sample of them.
        only_new : bool, default=False
            For an estimator without ``partial_fit``: fit it to these alone. One with it is handed
            these alone in any case, and replays what its ``replay`` says.
        **fit_kwargs
            Handed to the estimator's ``partial_fit`` or ``fit``.
        """
        if not hasattr(self.estimator, "partial_fit"):
            super().teach(X, y, bootstrap=bootstrap, only_new=only_new, **fit_kwargs)
            return
        X, y = np.asarray(X), np.asarray(y)
        rows = np.random.default_rng().integers(len(X), size=len(X)) if bootstrap else slice(None)
        self.estimator.partial_fit(X[rows], y[rows], **fit_kwargs)
        # Only what the estimator accepted is kept.
        if self.X_training is None:
            self.X_training, self.y_training = X, y
        else:
            self.X_training = join(np.asarray(self.X_training), X)
            self.y_training = np.concatenate([self.y_training, y])
