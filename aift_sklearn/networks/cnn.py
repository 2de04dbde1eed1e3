"""CNNClassifier: image → class, by a pre-trained CNN that is fine-tuned; skorch inside."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from .._candidates import softmax
from .._checks import check_known_labels, check_labels, check_same_classes, unchanged_on_error
from .._saving import SaveMixin
from ..errors import ModelNotFittedError, ParameterError
from ._embedding import EmbeddingMixin, pick_device
from ._examples import Examples
from ._probe import fit_head
from ._settings import (
    Taught,
    begins_with_probe,
    check_settings,
    count_trained_blocks,
    split_held_out,
)
from .backbones import BACKBONES
from .network import Network, unchanged_network
from .training import Settings, seeded, train

__all__ = ["CNNClassifier"]

Array = NDArray[Any]


def _as_memory(memory: Any) -> tuple[Any, ...]:
    """X, y and perhaps weights of what is labelled."""
    if isinstance(memory, (tuple, list)) and len(memory) in (2, 3):
        return tuple(memory)
    raise ParameterError(
        f"memory={type(memory).__name__} of {len(memory) if hasattr(memory, '__len__') else 'no'} "
        "parts; expected (X, y) or (X, y, sample_weight) of all images that were ever labelled."
    )


def _has_pretrained_head(self: CNNClassifier) -> bool:
    return self.pretrained and isinstance(self.backbone, str) and self.backbone in BACKBONES


class CNNClassifier(SaveMixin, EmbeddingMixin, ClassifierMixin, BaseEstimator):
    """Fine-tune a pre-trained CNN to classify images.

    ``fit`` starts from the pre-trained weights, `partial_fit` continues from the present ones.
    The network is trained by skorch; labels may be strings or any integers.

    Parameters
    ----------
    backbone : str, nn.Module or callable, default="efficientnet_lite0"
        "efficientnet_lite0", whose ImageNet weights come with a package and need no network;
        "efficientnet_lite1" and "efficientnet_lite2", larger, with the extra ``backbones``;
        "timm:NAME", such as "timm:resnet18", where timm is installed, which downloads weights; a
        module that maps images (k, C, h, w), or features (k, f), to embeddings (k, E), which is
        copied; or a function that returns one.
    pretrained : bool, default=True
        Whether the backbone's weights are of use before training. A backbone by name is loaded
        with ImageNet weights, or else with random ones.
    trainable : {"all", "head"} or int, default="all"
        What is trained: everything, the new head alone, or the head and that many of the last
        blocks, children of the network that have weights. Less trains faster and needs fewer
        labels; more can learn what ImageNet lacks.
    linear_probe : bool, default=True
        Begin fine-tuning with a head that is a logistic regression on the pre-trained embeddings,
        in place of one of zeros, whose first gradients would spoil them. A `partial_fit` that is
        given ``memory`` ends with such a head (and with trainable="head" there is nothing else to
        learn). Only of a pre-trained backbone.
    lr : float, default=2e-4
        Largest learning rate of the backbone; in each call it rises to that and falls to zero. A
        larger value learns faster and forgets more. With 0 no weight is trained.
    continued_lr_factor : float, default=0.5
        Learning rates of a `partial_fit` that continues, as multiples of those of the first call.
        A network that is already fine-tuned needs smaller steps.
    head_lr_factor : float, optional
        Learning rate of the head, as a multiple of ``lr``; by default 1 where a linear probe tells
        the classes of the call already, else 10.
    max_epochs : int, default=10
        Passes over the images in one call.
    batch_size : int, default=32
        Images per step. Predictions take as many at once, or fewer of large ones on a CPU, or more
        of small ones on a GPU.
    weight_decay : float, default=1e-4
        AdamW's decoupled weight decay.
    max_grad_norm : float, default=5.0
        The gradient is shortened to this norm.
    class_weight : None or "balanced", default=None
        "balanced" weights classes inversely to their frequency in the call's labels, or to the sum
        of their ``sample_weight``, as scikit-learn's classifiers do.
    schedule : {"linear", "cosine", "constant"}, default="linear"
        How the learning rate goes on after it rose over a fifth of the steps.
    early_stopping : int, optional
        Patience: hold some of the call's images out, stop once their loss has not improved for
        that many epochs, and keep the best weights. ``max_epochs`` stays the limit.
    calibration : None or "temperature", default=None
        "temperature" divides logits by the number that predicts the held-out images best, so that
        probabilities mean what they say. It changes no predicted class.
    validation_fraction : float, default=0.2
        Share of the call's images that is held out for early stopping and calibration, of each
        class in proportion. Where that is fewer than four images, or of one class, nothing is held
        out, and both are left alone.
    callbacks : list of skorch callbacks, optional
        Called besides those of this class: ``Checkpoint``, ``EpochScoring``, ``LRScheduler`` ...;
        or pairs (name, callback). Each call trains with copies of them. One that cannot be copied,
        such as ``TensorBoard`` with its writer, or that shares something with its caller, is
        given as a function of no argument that makes it. Those that look at ``valid_loss`` need
        held-out images.
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
        epoch, train_loss and dur (seconds) of each epoch since the last `fit`, and what callbacks
        recorded; with held-out images also valid_loss and valid_accuracy.
    temperature_ : float
        What logits are divided by, from 0.2 (surer) to 20; 1 without calibration. A
        `partial_fit` that holds nothing out, or is interrupted, keeps it, unless it fitted the head
        anew.
    n_features_in_ : int
        Channels C of the images.

    Notes
    -----
    Batch-norm statistics stay as they were pre-trained. Only a backbone without pre-training
    adapts them, in its first call, in batches of 16 and more: one odd batch of new labels cannot
    move the predictions for old images.

    Ctrl-C leaves a usable classifier: the weights of the last finished epoch, or, before one was
    finished, those from before the call.

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

    graph_output: ClassVar[str] = "logits"
    """What ``module_`` puts out, for those who compute it elsewhere."""

    # What an estimator around this one may rely on, and need not do itself: a call that fails
    # leaves everything as it was; augmentation= draws other views of the images in every epoch.
    _restores_itself: ClassVar[bool] = True
    _augments_itself: ClassVar[bool] = True

    # Whoever splits by groups need not have them handed on as well.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": False}
    __metadata_request__partial_fit: ClassVar[dict[str, bool]] = {"groups": False, "memory": False}

    history_: list[dict[str, float]]
    temperature_: float
    # Indices of those that the last linear probe told apart.
    _probed_classes: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __init__(
        self,
        backbone: Any = "efficientnet_lite0",
        *,
        pretrained: bool = True,
        trainable: str | int = "all",
        linear_probe: bool = True,
        lr: float = 2e-4,
        continued_lr_factor: float = 0.5,
        head_lr_factor: float | None = None,
        max_epochs: int = 10,
        batch_size: int = 32,
        weight_decay: float = 1e-4,
        max_grad_norm: float = 5.0,
        class_weight: str | None = None,
        schedule: str = "linear",
        early_stopping: int | None = None,
        calibration: str | None = None,
        validation_fraction: float = 0.2,
        callbacks: Any = None,
        augmentation: Any = None,
        augmentation_views: int = 1,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.pretrained = pretrained
        self.trainable = trainable
        self.linear_probe = linear_probe
        self.lr = lr
        self.continued_lr_factor = continued_lr_factor
        self.head_lr_factor = head_lr_factor
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.class_weight = class_weight
        self.schedule = schedule
        self.early_stopping = early_stopping
        self.calibration = calibration
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.augmentation = augmentation
        self.augmentation_views = augmentation_views
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fine-tune from the pre-trained weights.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.
        y : array-like of shape (n,)
            Classes.
        sample_weight : array-like of shape (n,), optional
            Weight of each image in the loss; one of weight 0 is not trained on.
        groups : array-like of shape (n,), optional
            What is held out is held out with its group: views of one lesion, images of one patient.

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
        TrainingInterrupted
            On Ctrl-C after at least one epoch; the classifier has the weights of the last one.
        KeyboardInterrupt
            On Ctrl-C before that; the classifier is as it was before the call.
        """
        with unchanged_on_error(self):
            X = self._check_X(X, reset=True)
            y = check_labels(y, X)
            return self._fit_anew(Taught.checked(X, y, sample_weight, groups), np.unique(y))

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        memory: Any = None,
    ) -> Self:
        """Continue fine-tuning from the present weights, on these images.

        Parameters
        ----------
        X : array-like of shape (n, C, h, w) or (n, f)
            Images, uint8 in [0, 255] or float in [0, 1]; features where the backbone takes them.
        y : array-like of shape (n,)
            Classes.
        classes : array-like of shape (K,), optional
            All classes, needed in the first call only, where they are not all in ``y``.
        sample_weight : array-like of shape (n,), optional
            Weight of each image in the loss; one of weight 0 is not trained on.
        groups : array-like of shape (n,), optional
            What is held out is held out with its group: views of one lesion, images of one patient.

        memory : tuple (X, y) or (X, y, sample_weight), optional
            All images that were ever labelled, these among them. With ``linear_probe`` the head is
            fitted to them in the end, whatever images the network is fine-tuned on: so it forgets
            no class. That takes a pass over them, and another where they have a class that the
            head does not tell yet, since then it is fitted in the beginning too. Left alone in a
            first call, and in one that holds images out.

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
        TrainingInterrupted
            On Ctrl-C after at least one epoch; the classifier has the weights of the last one.
        KeyboardInterrupt
            On Ctrl-C before that; the classifier is as it was before the call.
        """
        with unchanged_on_error(self):
            first = not hasattr(self, "module_")
            X = self._check_X(X, reset=first)
            y = check_labels(y, X)
            taught = Taught.checked(X, y, sample_weight, groups)
            known = None if memory is None else _as_memory(memory)
            if first:
                return self._fit_anew(taught, np.unique(y if classes is None else classes))
            check_same_classes(classes, self.classes_)
            check_known_labels(y, self.classes_)
            with unchanged_network(self.module_):
                all_known = None if known is None else self._check_memory(*known)
                self._train(self.module_, taught, self.classes_, first=False, memory=all_known)
        return self

    def _check_memory(self, X: Any, y: Any, sample_weight: Any = None) -> Taught:
        X = self._check_X(X)
        y = check_labels(y, X)
        check_known_labels(y, self.classes_)
        return Taught.checked(X, y, sample_weight, None)

    def _fit_anew(self, taught: Taught, classes: Array) -> Self:
        check_known_labels(taught.y, classes)
        # Kept: a later partial_fit draws on, it does not repeat.
        self._rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        backbone = self._build_backbone(taught.X, seed=int(self._rng.integers(2**31)))
        with seeded(0, "cpu"):
            network = Network(backbone, len(classes)).to(pick_device(self.device))
        self._train(network, taught, classes, first=True)
        return self

    def _train(
        self,
        network: Network,
        taught: Taught,
        classes: Array,
        *,
        first: bool,
        memory: Taught | None = None,
    ) -> None:
        """Train the network and keep it."""
        settings = check_settings(self, taught, classes, first=first)
        network.backbone.freeze_all_but_last(count_trained_blocks(self.trainable))
        network.adapt_batch_norm = first and not self.pretrained
        # A copy, so that a call that fails does not draw from the one that is kept.
        self._rng = copy.deepcopy(self._rng)
        seed = int(self._rng.integers(2**31))
        measures = settings.early_stopping is not None or settings.calibrate
        learnt, held_out = split_held_out(self, taught, classes, self._rng, hold=measures)
        probed = None
        if begins_with_probe(self):
            # What is held out is not to be learnt from, and what it measured is to stay true.
            usable = memory if held_out is None else None
            probed = self._probed(learnt, usable, settings, classes, first=first)
        told = self._probed_classes
        if first:
            told = told[:0]
        if probed is not None and not np.isin(probed[0].y, told).all():
            found = fit_head(network, *probed, seed)
            told = found if len(found) else told
        settings = settings.of_head(probed=bool(np.isin(learnt.y, told).all()))
        outcome = train(network, learnt, settings, held_out=held_out, seed=seed)
        if probed is not None and not first and outcome.interrupt is None:
            outcome = outcome.unless_interrupted(lambda: fit_head(network, *probed, seed + 1))
        self._probed_classes = told
        if outcome.temperature is not None:
            self.temperature_ = outcome.temperature
        elif first or probed is not None:
            # Of another head.
            self.temperature_ = 1.0
        self.classes_, self.module_ = classes, network
        self.history_ = outcome.history if first else [*self.history_, *outcome.history]
        if outcome.interrupt is not None:
            raise outcome.interrupt

    def _probed(
        self,
        learnt: Examples,
        memory: Taught | None,
        settings: Settings,
        classes: Array,
        *,
        first: bool,
    ) -> tuple[Examples, Settings] | None:
        """What the head is fitted to, and how; None where it is trained only."""
        if first:
            return learnt, settings
        if memory is None:
            return None
        known, _ = split_held_out(self, memory, classes, self._rng, hold=False)
        return known, check_settings(self, memory, classes, first=False)

    def _wants_memory(self) -> bool:
        """Whether ``memory`` is of use to `partial_fit`."""
        return begins_with_probe(self)

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
        logits = self._infer(self.module_, self.module_.backbone, self._check_X(X))
        return softmax(logits.astype(np.float64) / self.temperature_)

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
        if not hasattr(self, "module_") and not self.pretrained:
            self._check_fitted("embed without a pre-trained backbone")
        fitted = hasattr(self, "module_")
        backbone = self.module_.backbone if fitted else self._pretrained_backbone(X)
        return self._infer(backbone, backbone, X)

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
        backbone = self._pretrained_backbone(X)
        if backbone.head is None:
            raise ParameterError(f"backbone={self.backbone!r} has no pre-training head.")
        network = torch.nn.Sequential(backbone, backbone.head)
        return softmax(self._infer(network, backbone, X).astype(np.float64))

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
