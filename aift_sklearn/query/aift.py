"""AIFT: ask for the candidates whose patches the model finds uncertain and contradictory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_option
from ..errors import DataError, ParameterError
from ..scores import patch_consistency
from .asking import ask
from .choosing import Choice
from .unwrapping import candidate_scorer, knows_two_classes

__all__ = ["aift_sampling"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def aift_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    *,
    selection: Literal["coverage", "top", "random_extension", "k-centre"] = "coverage",
    omega: float | None = None,
    alpha: float = 0.25,
    entropy_weight: float = 1.0,
    diversity_weight: float = 1.0,
    reduction: Literal["sum", "mean"] = "sum",
    cold_start: Literal["typical", "pretrained", "random"] = "typical",
    groups: Any = None,
    racing: bool = True,
    eps: float | None = None,
    random_state: Any = None,
) -> Any:
    """Ask for the candidates whose patches the model finds uncertain and contradictory.

    Parameters
    ----------
    classifier : AIFTLearner, modAL learner, or AIFTClassifier
        What to ask for: an `AIFTClassifier`, or a learner around one.
    X_pool : array-like of shape (n, C, H, W), (n, m, C, h, w) or (n, f)
        Unlabelled candidates.
    n_instances : int, default=1
        How many to ask for, b.
    selection : {"coverage", "top", "random_extension", "k-centre"}, default="coverage"
        "coverage", this package's own: b among the higher scores that cover the pool together with
        what is labelled; the scores lead as far as the model is to be trusted (see Notes).
        "top": the b highest scores (the AIFT of the paper). "random_extension": b at random from
        the top ω·b, with probability rising with the score (ACFT). "k-centre": b that lie far apart
        among the top ω·b, by greedy k-centre on the embeddings; against near-duplicates, such as
        neighbouring frames.
    omega : float ≥ 1, optional
        ω, the length of the shortlist in units of b; by default 10 for "coverage", which has a
        longer one while the model is trusted less, and 4 for the others.
    alpha : float in (0, 1], default=0.25
        Fraction of the patches that enters the score, after majority selection.
    entropy_weight, diversity_weight : float ≥ 0, default=1
        λ1 and λ2 of `patch_consistency`.
    reduction : {"sum", "mean"}, default="sum"
        As of `patch_consistency`; "mean" does not let the diversity outweigh the entropy.
    cold_start : {"typical", "pretrained", "random"}, default="typical"
        What to ask for while labels of fewer than two classes are known. "typical": the most
        typical candidate of each of b clusters of the pre-trained embeddings, away from those
        already labelled (of more than 50,000 candidates, a random subset is embedded);
        "pretrained": the highest scores of the pre-training classes'
        probabilities; "random".
    groups : array-like of shape (n,), optional
        Patient, slide or video of each candidate of the pool: within the top ω·b, of "coverage" the
        first 4·b, no group gives another candidate while one with fewer is left.
    racing : bool, default=True
        Find the highest scores by a race where the classifier offers one (ONNX Runtime, many
        patches, a large pool): all candidates are predicted on a few patches, and only those that
        can still be among the highest on more. The scores of what is asked for are exact; that
        nobody is missed is likely, not guaranteed. False predicts every patch of every candidate,
        as "coverage" does in any case, for it weighs them all.
    eps : float, default=2**-52
        As of `patch_consistency`.
    random_state : int, RandomState, Generator or None, default=None
        Seeds the random extension, the clustering, the random cold start, and the samples of pools
        above 16,384 candidates.

    Returns
    -------
    ndarray of shape (b,), or tuple of ndarrays of shape (b,)
        Indices into the pool, highest score first, or as they cover most. modAL from 0.4.2 on is
        given (indices, scores).

    Raises
    ------
    DataError
        If b exceeds the pool, or the pool does not fit the classifier.
    DataTypeError
        If the classifier cannot score candidates.
    ParameterError
        If a parameter is outside its range.

    Notes
    -----
    The papers ask for the highest scores. On a small, wrong model these are noise, and near-copies
    of each other. "coverage" asks, one by one, for the candidate x with the largest

        Σ_i w_i · max(0, k(i, x) − c_i),   w_i = (1 − τ) + τ · s_i / mean(s),

    among the n^(1 − τ) · (ω·b)^τ highest scores s. The sum is over the whole pool, k is a Gaussian
    kernel on embeddings of the whole candidates by the pre-trained network, and c_i the largest k
    of i to what is labelled or asked for. τ, the trust, is the root of the skill over chance that
    a logistic regression on these embeddings shows on the labelled candidates, out of fold: a model
    that knows nothing yet leaves a pure coverage of the pool by the pool, and one that knows much
    lets the scores say which candidates are asked for, and for whom. Of more than 16,384 a sample,
    drawn by weight, can be asked for.

    References
    ----------
    Zhou et al., CVPR 2017, Alg. 1; Zhou et al., Medical Image Analysis 71, 2021; Hacohen et al.,
    Active Learning on a Budget, ICML 2022 (the typical cold start); Bae et al., Uncertainty
    Herding, ICLR 2025 (coverage weighted by uncertainty).

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, AIFTLearner
    >>> X, y = make_blobs(200, centers=2, random_state=0)
    >>> learner = AIFTLearner(AIFTClassifier(LogisticRegression(), classes=[0, 1]))
    >>> for _ in range(3):
    ...     indices, _ = learner.query(X, n_instances=5, random_state=0)
    ...     learner.teach(X[indices], y[indices])
    >>> learner.score(X, y) > 0.9
    True
    """
    consistency: dict[str, Any] = {
        "alpha": alpha,
        "entropy_weight": entropy_weight,
        "diversity_weight": diversity_weight,
        "reduction": reduction,
        "eps": eps,
    }
    # Parameters are checked before the pool is read, and in the cold start too.
    patch_consistency(np.full((1, 1, 2), 0.5), **consistency)
    check_option("racing", racing, (True, False))
    estimator = candidate_scorer(classifier)

    def highest(n_scores: int, n: int) -> tuple[Indices, Floats]:
        if not knows_two_classes(estimator):
            return np.arange(n), _pretrained_scores(estimator, X_pool, consistency)
        if n_scores < n and hasattr(estimator, "top_candidates"):
            found = estimator.top_candidates(X_pool, n_scores, racing=bool(racing), **consistency)
            return _in_order(found, n_scores, n)
        return np.arange(n), np.asarray(estimator.score_candidates(X_pool, **consistency))

    return ask(
        classifier,
        X_pool,
        n_instances,
        highest,
        Choice(selection, omega, groups),
        cold_start=cold_start,
        random_state=random_state,
    )


def _in_order(found: tuple[Any, Any], n_scores: int, n: int) -> tuple[Indices, Floats]:
    """Sort the highest candidates by index, so that rules break their ties as in a whole pool."""
    indices, scores = np.asarray(found[0]), np.asarray(found[1])
    order = np.argsort(indices)
    rising = indices[order]
    fits = indices.shape == scores.shape == (n_scores,) and (np.diff(rising) > 0).all()
    if not fits or rising[0] < 0 or rising[-1] >= n:
        raise DataError(
            f"top_candidates gave indices of shape {indices.shape} and scores of shape "
            f"{scores.shape}; expected {n_scores} different positions in a pool of {n}, and their "
            "scores."
        )
    return rising, scores[order]


def _pretrained_scores(estimator: Any, X_pool: Any, consistency: dict[str, Any]) -> Floats:
    predict = getattr(estimator, "pretrained_patch_proba", None)
    if predict is None:
        raise ParameterError(
            "cold_start='pretrained' needs a CNN with a pre-training head, such as "
            "CNNClassifier('efficientnet_lite0'); use cold_start='typical' or 'random'."
        )
    return patch_consistency(predict(X_pool), **consistency)
