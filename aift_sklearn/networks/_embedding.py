"""What a classifier and a transformer around one backbone share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import check_features, check_images, check_int, image_shape
from ..errors import DataError, OutOfMemoryError, ParameterError
from ._cache import build_once
from ._forward import explained_failure, is_out_of_memory, to_tensor
from ._inference import infer
from .backbones import Backbone, build_backbone
from .network import Network
from .training import seeded

__all__ = ["EmbeddingMixin", "pick_device"]

Array = NDArray[Any]


def pick_device(device: str) -> str:
    """Resolve "auto", and refuse a device that cannot be used."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch raises a different type for each way a device can fail
        raise ParameterError(f"device={device!r} cannot be used: {error}") from error
    return device


class EmbeddingMixin:
    """What a classifier and a transformer around one backbone share."""

    backbone: Any
    pretrained: bool
    device: str
    batch_size: int
    n_features_in_: int
    _n_dims: int

    def _check_X(self, X: Any, *, reset: bool = False) -> Array:
        """Images (n, C, h, w) as uint8 or float32, or features (n, f) as float32."""
        shape = image_shape(X)
        if shape is None and not isinstance(self.backbone, str):
            X = check_features(self, X, dtype=np.float32, reset=reset)
        else:
            X = check_images(X)
            if len(X) == 0:
                raise DataError(f"X has shape {X.shape}; expected at least one image.")
        channels = X.shape[1]
        if reset:
            self._n_dims, self.n_features_in_ = X.ndim, channels
        elif X.ndim != getattr(self, "_n_dims", X.ndim):
            raise DataError(
                f"X has shape {X.shape}; this {type(self).__name__} was fitted on "
                f"{'features (n, f)' if self._n_dims == 2 else 'images (n, C, h, w)'}."
            )
        elif channels != getattr(self, "n_features_in_", channels):
            raise DataError(
                f"X has shape {X.shape}, that is {channels} channels; {type(self).__name__} was "
                f"fitted on {self.n_features_in_}."
            )
        return X

    def _build_backbone(self, X: Array, *, seed: int = 0) -> Backbone:
        device = pick_device(self.device)
        with seeded(seed, device):
            backbone = build_backbone(self.backbone, pretrained=self.pretrained)
            if X.ndim == 4:
                backbone.check_channels(X.shape[1])
            backbone.to(device).eval()
            try:
                # Not one image alone: a body that mixes up images and their parts shows it then.
                example = to_tensor(X[np.resize(np.arange(len(X)), 2)]).to(device)
                with explained_failure(backbone, X.shape):
                    backbone.measure(example)
                    if backbone.channels_last is None:
                        backbone.measure(example[:1])
                        backbone.choose_layout(example)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise OutOfMemoryError(
                    f"the backbone and two inputs of shape {X.shape[1:]} do not fit the memory "
                    f"that is left on {device} ({error}). Free some, or pass smaller images "
                    "(AffinePatches(size=...) cuts them), a smaller backbone, or device='cpu'."
                ) from error
        return backbone

    def _pretrained_backbone(self, X: Array) -> Backbone:
        """Backbone with the weights from before training, built once for inputs like X."""
        # By its name a backbone is known to take any size; one that is made has shapes of its own.
        shape = () if isinstance(self.backbone, str) else X.shape[1:]
        backbone = build_once(
            self,
            self.backbone,
            (self.pretrained, pick_device(self.device), shape),
            lambda: self._build_backbone(X),
        )
        if X.ndim == 4:
            backbone.check_channels(X.shape[1])
        return backbone

    def _rebuilt(
        self, weights: dict[str, torch.Tensor], embedding_size: int, n_classes: int | None
    ) -> torch.nn.Module:
        """Build the fitted network again: a backbone, or one with a head for K classes."""
        # Building draws initial weights, which the saved ones replace.
        with seeded(0, "cpu"):
            backbone = build_backbone(self.backbone, pretrained=False)
            backbone.embedding_size = embedding_size
            module = backbone if n_classes is None else Network(backbone, n_classes)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ParameterError(
                f"the saved weights do not fit backbone={self.backbone!r}: {error}"
            ) from error
        return module.to(pick_device(self.device)).eval()

    def _infer(self, module: torch.nn.Module, backbone: Backbone, X: Array) -> NDArray[np.float32]:
        """Outputs of a network that is, or holds, the backbone: (n, ...), float32, finite."""
        batch_size = check_int("batch_size", self.batch_size, minimum=1)
        device = pick_device(self.device)
        with explained_failure(module, X.shape):
            return infer(module.eval(), backbone, X, batch_size=batch_size, device=device)
