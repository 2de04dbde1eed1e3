"""Pre-trained CNNs: backbones, their training, and the estimators around them."""

from .._threads import passive_waiting

with passive_waiting():
    import torch as _torch

del _torch
