"""Weights of candidates on their way to the estimator, with and without metadata routing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import has_fit_parameter

from ._checks import check_weights
from .errors import ParameterError

__all__ = ["WeightRouting", "weight_parameter"]


class WeightRouting:
    """Takes ``sample_weight`` in fit and partial_fit, if the estimator inside does."""

    estimator: Any

    def _weights(
        self, method: str, fit_params: Mapping[str, Any], n: int
    ) -> NDArray[np.float64] | None:
        """Check the weights of the candidates, and that the estimator wants them."""
        unknown = sorted(set(fit_params) - {"sample_weight"})
        if unknown:
            raise ParameterError(
                f"{method} got {unknown}; besides X, y and classes it takes sample_weight only."
            )
        weight = check_weights(fit_params.get("sample_weight"), n)
        if weight is None:
            return None
        if get_config()["enable_metadata_routing"]:
            # Refuses weights that no step of the estimator has requested.
            process_routing(self, method, sample_weight=weight)
        elif self.estimator is not None and not has_fit_parameter(
            _last_step(self.estimator), "sample_weight"
        ):
            raise ParameterError(
                f"sample_weight was given, but {type(_last_step(self.estimator)).__name__} does "
                "not take it; leave it out, or use another estimator."
            )
        return weight

    def get_metadata_routing(self) -> MetadataRouter:
        """Tell scikit-learn's metadata routing that ``sample_weight`` goes on to the estimator.

        Returns
        -------
        MetadataRouter
            Routes of ``fit`` and ``partial_fit``.
        """
        # What is chosen by default, a CNN or a logistic regression, takes weights.
        estimator = self.estimator
        if estimator is None:
            estimator = LogisticRegression().set_fit_request(sample_weight=True)
        continued = "partial_fit" if hasattr(estimator, "partial_fit") else "fit"
        mapping = MethodMapping().add(caller="fit", callee="fit")
        mapping.add(caller="partial_fit", callee=continued)
        # Its own request is that of `score`.
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        return router.add(estimator=estimator, method_mapping=mapping)


def _last_step(estimator: Any) -> Any:
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def weight_parameter(estimator: Any) -> str:
    """Name under which an estimator is handed weights.

    >>> from sklearn.pipeline import make_pipeline
    >>> weight_parameter(make_pipeline(LogisticRegression()))
    'logisticregression__sample_weight'
    """
    if isinstance(estimator, Pipeline) and not get_config()["enable_metadata_routing"]:
        return f"{estimator.steps[-1][0]}__sample_weight"
    return "sample_weight"
