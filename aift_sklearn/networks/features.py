"""CNNFeatures: image → embedding, the first step of a pipeline."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from .._saving import SaveMixin
from ..errors import ModelNotFittedError
from ._cache import built_before
from ._embedding import EmbeddingMixin

__all__ = ["CNNFeatures"]


class CNNFeatures(
    SaveMixin,
    EmbeddingMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed images with a pre-trained CNN, as the first step of a pipeline.

    Parameters
    ----------
    backbone : str, nn.Module or callable, default="efficientnet_lite0"
        As of `CNNClassifier`.
    pretrained : bool, default=True
        As of `CNNClassifier`; with False the embedding is a random one.
    batch_size : int, default=32
        Images embedded at once, at most: a CPU takes fewer of large ones.
    device : str, default="auto"
        "auto" is "cuda" where there is one, else "cpu".

    Attributes
    ----------
    module_ : Backbone
        The network.
    n_features_in_ : int
        Channels C of the images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> X = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    >>> pipeline = make_pipeline(CNNFeatures(), LogisticRegression()).fit(X, [0, 1] * 4)
    >>> pipeline[:-1].transform(X).shape
    (8, 1280)
    """

    graph_output: ClassVar[str] = "embeddings"
    """What ``module_`` puts out, for those who compute it elsewhere."""

    def __init__(
        self,
        backbone: Any = "efficientnet_lite0",
        *,
        pretrained: bool = True,
        batch_size: int = 32,
        device: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.pretrained = pretrained
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> Self:
        """Build the network; nothing is trained.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w)
            Images; only their channels are used.
        y : None
            Ignored.

        Returns
        -------
        CNNFeatures
            Itself.
        """
        X = self._check_X(X, reset=True)
        self.module_ = self._build_backbone(X)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed images; a pre-trained network needs no `fit` before.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w)
            Images, uint8 in [0, 255] or float in [0, 1].

        Returns
        -------
        ndarray of shape (n, E), float32
            Embeddings.

        Raises
        ------
        NotFittedError
            If the backbone is neither pre-trained nor fitted.
        """
        X = self._check_X(X)
        fitted = hasattr(self, "module_")
        if not fitted and not self.pretrained:
            raise ModelNotFittedError("CNNFeatures without pre-training: call fit first.")
        backbone = self.module_ if fitted else self._pretrained_backbone(X)
        return self._infer(backbone, backbone, X)

    # Not wrapped by set_output: always an array.
    embed = transform

    @property
    def _n_features_out(self) -> int:
        """E, for `get_feature_names_out`, which names columns cnnfeatures0 … of any container."""
        if hasattr(self, "module_"):
            return int(self.module_.embedding_size)
        known = built_before(self)
        if known is None and self.pretrained and isinstance(self.backbone, str):
            # A backbone by name takes any size, and tells its embedding's by an example.
            known = self._pretrained_backbone(np.zeros((1, 3, 64, 64), np.uint8))
        if known is None:
            raise AttributeError("the size of the embedding is known after fit or transform")
        return known.embedding_size

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_") or self.pretrained

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = not self.pretrained
        tags.input_tags.two_d_array = not isinstance(self.backbone, str)
        return tags
