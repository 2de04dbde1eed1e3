"""CNNClassifier (image → class; skorch inside) and CNNFeatures (image → embedding)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if

from ._checks import (
    check_int,
    check_known_labels,
    check_labels,
    check_number,
    check_option,
    check_same_classes,
    unchanged_on_error,
)
from ._embedding import EmbeddingMixin, pick_device
from .errors import ModelNotFittedError, ParameterError
from .features import CNNFeatures
from .training import Network, seeded, train

__all__ = ["CNNClassifier", "CNNFeatures"]

Array = NDArray[Any]


def _has_pretrained_head(self: CNNClassifier) -> bool:
    return self.pretrained and isinstance(self.backbone, str)


class CNNClassifier(EmbeddingMixin, ClassifierMixin, BaseEstimator):
    """Fine-tune a pre-trained CNN to classify images.

    ``fit`` starts from the pre-trained weights, `partial_fit` continues from the present ones.
    The network is trained by skorch; labels may be strings or any integers.

    Parameters
    ----------
    backbone : str, nn.Module or callable, default="efficientnet_lite0"
        "efficientnet_lite0", whose ImageNet weights come with a package and need no network; a
        module that maps images (k, C, h, w), or features (k, f), to embeddings (k, E), which is
        copied; or a function that returns one.
    pretrained : bool, default=True
        Whether the backbone's weights are of use before training. A backbone by name is loaded
        with ImageNet weights, or else with random ones.
    trainable : {"all", "head"} or int, default="all"
        What is trained: everything, the new head alone, or the head and that many of the last
        blocks. Less trains faster and needs fewer labels; more can learn what ImageNet lacks.
    lr : float, default=5e-4
        Largest learning rate of the backbone; in each call it rises to that and falls to zero. A
        larger value learns faster and forgets more. With 0 nothing changes.
    continued_lr_factor : float, default=0.5
        Learning rates of a `partial_fit` that continues, as multiples of those of the first call.
        A network that is already fine-tuned needs smaller steps.
    head_lr_factor : float, default=10
        Learning rate of the new head, as a multiple of ``lr``.
    max_epochs : int, default=10
        Passes over the images in one call.
    batch_size : int, default=32
        Images per step.
    weight_decay : float, default=1e-4
        AdamW's decoupled weight decay.
    max_grad_norm : float, default=5.0
        The gradient is shortened to this norm.
    class_weight : None or "balanced", default=None
        "balanced" weights classes inversely to their frequency in the call's labels.
    augmentation : AffinePatches, optional
        Draws fresh views of each image in every epoch. None trains on the images as they are.
    augmentation_views : int, default=1
        Views of each image in an epoch.
    device : str, default="auto"
        "auto" is "cuda" where there is one, else "cpu".
    verbose : int, default=0
        1 shows a progress bar with the loss.
    random_state : int, RandomState or None, default=None
        Seeds the order of the images, their views, and new weights.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Class labels, sorted.
    module_ : Network
        The trained network, ``module_.backbone`` and ``module_.head``.
    history_ : list of dict
        epoch, train_loss and dur (seconds) of each epoch since the last `fit`.
    n_features_in_ : int
        Channels C of the images.

    Notes
    -----
    Batch-norm statistics stay as they were pre-trained. Only a backbone without pre-training
    adapts them, in its first call, in batches of 16 and more: one odd batch of new labels cannot
    move the predictions for old images.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    >>> y = ["cyst", "cyst", "tumour", "cyst", "tumour", "tumour", "cyst", "tumour"]
    >>> cnn = CNNClassifier(trainable="head", max_epochs=1, random_state=0).fit(X, y)
    >>> cnn.partial_fit(X[:4], y[:4]).predict_proba(X).shape
    (8, 2)
    >>> cnn.embed(X).shape
    (8, 1280)
    """

    history_: list[dict[str, float]]

    def __init__(
        self,
        backbone: Any = "efficientnet_lite0",
        *,
        pretrained: bool = True,
        trainable: str | int = "all",
        lr: float = 5e-4,
        continued_lr_factor: float = 0.5,
        head_lr_factor: float = 10.0,
        max_epochs: int = 10,
        batch_size: int = 32,
        weight_decay: float = 1e-4,
        max_grad_norm: float = 5.0,
        class_weight: str | None = None,
        augmentation: Any = None,
        augmentation_views: int = 1,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.pretrained = pretrained
        self.trainable = trainable
        self.lr = lr
        self.continued_lr_factor = continued_lr_factor
        self.head_lr_factor = head_lr_factor
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.class_weight = class_weight
        self.augmentation = augmentation
        self.augmentation_views = augmentation_views
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fine-tune from the pre-trained weights.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.
        y : array-like of shape (n,)
            Classes.

        Returns
        -------
        CNNClassifier
            Itself.

        Raises
        ------
        DataError, DataTypeError, LabelError, ParameterError
            If the images, the labels or a parameter are not as described.
        NonFiniteLossError
            If training diverges; the classifier is then as it was before the call.
        """
        with unchanged_on_error(self):
            X = self._check_X(X, reset=True)
            y = check_labels(y, X)
            return self._fit_anew(X, y, np.unique(y))

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Continue fine-tuning from the present weights, on these images only.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.
        y : array-like of shape (n,)
            Classes.
        classes : array-like of shape (K,), optional
            All classes, needed in the first call only, where they are not all in ``y``.

        Returns
        -------
        CNNClassifier
            Itself.

        Raises
        ------
        LabelError
            If a label is not among the known classes.
        DataError, DataTypeError, ParameterError
            If the images or a parameter are not as described.
        NonFiniteLossError
            If training diverges; the classifier is then as it was before the call.
        """
        with unchanged_on_error(self):
            first = not hasattr(self, "module_")
            X = self._check_X(X, reset=first)
            y = check_labels(y, X)
            if first:
                return self._fit_anew(X, y, np.unique(y if classes is None else classes))
            check_same_classes(classes, self.classes_)
            check_known_labels(y, self.classes_)
            history = self._train(self.module_, X, y, self.classes_, first=False)
            self.history_ = [*self.history_, *history]
        return self

    def _fit_anew(self, X: Array, y: Array, classes: Array) -> Self:
        check_known_labels(y, classes)
        # Kept: a later partial_fit draws on, it does not repeat.
        self._rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        backbone = self._build_backbone(X, seed=int(self._rng.integers(2**31)))
        with seeded(0, "cpu"):
            network = Network(backbone, len(classes)).to(pick_device(self.device))
        history = self._train(network, X, y, classes, first=True)
        self.classes_, self.module_, self.history_ = classes, network, history
        return self

    def _train(
        self, network: Network, X: Array, y: Array, classes: Array, *, first: bool
    ) -> list[dict[str, float]]:
        check_option("class_weight", self.class_weight, (None, "balanced"))
        weight = None
        if self.class_weight == "balanced":
            present = np.unique(y)
            weight = np.ones(len(classes), dtype=np.float32)
            weight[np.searchsorted(classes, present)] = compute_class_weight(
                "balanced", classes=present, y=y
            )
        network.backbone.freeze_all_but_last(self._n_blocks())
        views = check_int("augmentation_views", self.augmentation_views, minimum=1)
        batch_size = check_int("batch_size", self.batch_size, minimum=1)
        factor = check_number("continued_lr_factor", self.continued_lr_factor, low=0)
        network.adapt_batch_norm = first and not self.pretrained
        return train(
            network,
            X,
            np.searchsorted(classes, y).astype(np.int64),
            seed=int(self._rng.integers(2**31)),
            lr=check_number("lr", self.lr, low=0) * (1.0 if first else factor),
            head_lr_factor=check_number("head_lr_factor", self.head_lr_factor, low=0),
            max_epochs=check_int("max_epochs", self.max_epochs, minimum=1),
            batch_size=batch_size,
            weight_decay=check_number("weight_decay", self.weight_decay, low=0),
            max_grad_norm=check_number("max_grad_norm", self.max_grad_norm, low=0),
            class_weight=weight,
            augmentation=self.augmentation,
            views=views,
            device=pick_device(self.device),
            verbose=self.verbose,
        )

    def _n_blocks(self) -> int | None:
        if isinstance(self.trainable, str):
            check_option("trainable", self.trainable, ("all", "head"))
            return None if self.trainable == "all" else 0
        return check_int("trainable", self.trainable, minimum=0)

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.

        Returns
        -------
        ndarray of shape (n, K), float32
            Columns in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            Before the first label; `embed` works even then.
        """
        self._check_fitted("predict_proba")
        logits = self._infer(self.module_, self._check_X(X)).astype(np.float64)
        return _softmax(logits)

    def predict(self, X: Any) -> Array:
        """Predict the class of each image.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.

        Returns
        -------
        ndarray of shape (n,)
            Class labels.
        """
        self._check_fitted("predict")
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def embed(self, X: Any) -> NDArray[np.float32]:
        """Embed images; before the first label, with the pre-trained weights.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.

        Returns
        -------
        ndarray of shape (n, E), float32
            What the head is given.

        Raises
        ------
        NotFittedError
            Before the first label, if the backbone is not pre-trained.
        """
        X = self._check_X(X)
        if hasattr(self, "module_"):
            return self._infer(self.module_.backbone, X)
        if not self.pretrained:
            self._check_fitted("embed without a pre-trained backbone")
        return self._infer(self._build_backbone(X), X)

    @available_if(_has_pretrained_head)
    def pretrained_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the pre-training classes, by the weights from before fine-tuning.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w)
            Images, uint8 in [0, 255] or float in [0, 1].

        Returns
        -------
        ndarray of shape (n, 1000), float32
            Probabilities of ImageNet's classes.
        """
        X = self._check_X(X)
        backbone = self._build_backbone(X)
        if backbone.head is None:
            raise ParameterError(f"backbone={self.backbone!r} has no pre-training head.")
        network = torch.nn.Sequential(backbone, backbone.head)
        return _softmax(self._infer(network, X).astype(np.float64))

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, "module_"):
            raise ModelNotFittedError(
                f"this {type(self).__name__} cannot {method} before it was given labels; call fit "
                "or partial_fit first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = not isinstance(self.backbone, str)
        tags.input_tags.three_d_array = False
        return tags


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    proba: NDArray[np.float32] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return proba
