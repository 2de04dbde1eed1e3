"""What rows depend on is told by value: alike where it is equal, apart where it is not."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import Pixels
from hypothesis import given
from hypothesis import strategies as st
from samples import make_blobs
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, aift_sampling
from aift_sklearn.query import make_query_strategy, patch_diversity, patch_entropy, random_sampling
from aift_sklearn.study import Dataset
from aift_sklearn.study.identity import (
    describe,
    describe_dataset,
    describe_estimator,
    describe_strategy,
)
from aift_sklearn.study.strategies import STRATEGIES


def network(seed=0, act=nn.ReLU, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), act(), nn.Flatten())


def function_of(source, **names):
    """A function as a notebook would define it, at any line."""
    scope = {"np": np, "__name__": "__main__", **names}
    exec(compile(source, "<cell>", "exec"), scope)
    return scope["ask"]


ASK = "def ask(learner, X, n_instances=1):\n    return np.arange(n_instances)\n"

# --- values

nested = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def plain(value):
    """A literal form: booleans apart from numbers, numbers by value, sequences by items."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float | int):
        return ("number", value)
    if isinstance(value, list):
        return ("list", tuple(map(plain, value)))
    if isinstance(value, dict):
        return ("dict", tuple(sorted((k, plain(v)) for k, v in value.items())))
    return value


@given(nested, nested)
def test_values_are_told_alike_exactly_where_they_are_equal(one, other):
    try:
        equal = plain(one) == plain(other)
    except TypeError:
        return
    assert (describe(one) == describe(other)) == equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (4, np.int64(4)),
        (0.25, np.float64(0.25)),
        ((0.8, 1.25), [0.8, 1.25]),
        (["a", "b"], np.array(["a", "b"])),
        (list(range(50)), np.arange(50)),
        ([i / 7 for i in range(50)], np.arange(50) / 7),
        (np.arange(50, dtype=np.int16), np.arange(50)),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
        ({"x", "y"}, {"y", "x"}),
        (True, np.True_),
        (np.random.default_rng(3), np.random.default_rng(3)),
        (np.random.RandomState(3), np.random.RandomState(3)),
        (torch.arange(4), torch.arange(4)),
    ],
)
def test_what_is_equal_is_told_alike(one, other):
    assert describe(one) == describe(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (True, 1),
        ("1", 1),
        (None, "None"),
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
        (np.zeros((2, 30)), np.zeros((30, 2))),
        (np.arange(50), np.arange(1, 51)),
        (np.random.default_rng(3), np.random.default_rng(4)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.float64)),
        (torch.zeros(30), torch.cat([torch.zeros(29), torch.ones(1)])),
        (np.sum, np.mean),
        (len, max),
        (int, float),
        (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2)),
        ("x" * 100, "x" * 101),
        (b"x" * 100, b"x" * 99 + b"y"),
    ],
)
def test_what_differs_is_told_apart(one, other):
    assert describe(one) != describe(other)


def test_a_value_that_holds_itself_ends():
    value = [1]
    value.append(value)
    assert describe(value) == describe(value)


# --- strategies


@pytest.mark.parametrize(
    "same",
    [
        functools.partial(aift_sampling, alpha=0.25),
        functools.partial(aift_sampling, alpha=np.float32(0.25), reduction="sum"),
        functools.partial(functools.partial(aift_sampling, alpha=0.5), alpha=0.25),
        functools.partial(aift_sampling, random_state=7),
        functools.partial(aift_sampling, n_instances=3),
    ],
)
def test_a_default_that_is_given_is_the_same_strategy(same):
    assert describe_strategy(same) == describe_strategy(aift_sampling)


def test_every_strategy_is_another_one():
    told = [describe_strategy(each) for each in STRATEGIES.values()]
    told += [
        describe_strategy(functools.partial(aift_sampling, alpha=0.3)),
        describe_strategy(make_query_strategy(patch_entropy)),
        describe_strategy(make_query_strategy(patch_diversity)),
        describe_strategy(make_query_strategy(functools.partial(patch_diversity, alpha=0.5))),
    ]
    assert all(one != other for one, other in itertools.combinations(told, 2))


def test_a_change_is_named():
    before = describe_strategy(functools.partial(aift_sampling, alpha=0.5))
    now = describe_strategy(aift_sampling)
    assert {name for name in now if before[name] != now[name]} == {"alpha"}
    assert (before["alpha"], now["alpha"]) == ("0.5", "0.25")


@pytest.mark.parametrize(
    "source",
    [
        ASK,
        "\n\n\n" + ASK,
        ASK.replace("):\n", "):\n    # a remark\n\n"),
        ASK.replace("):\n", '):\n    """What it does."""\n'),
    ],
)
def test_a_function_is_its_code_not_its_lines(source):
    assert describe_strategy(function_of(source)) == describe_strategy(function_of(ASK))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ASK, ASK.replace("arange(n_instances)", "arange(n_instances) + 1")),
        (ASK, ASK.replace("n_instances=1)", "n_instances=1, step=2)")),
        (ASK + "STEP = 1", ASK.replace("arange(n_instances)", "arange(n_instances) * STEP")),
        (
            "STEP = 1\n" + ASK.replace("arange(n_instances)", "arange(n_instances) * STEP"),
            "STEP = 2\n" + ASK.replace("arange(n_instances)", "arange(n_instances) * STEP"),
        ),
        (
            "def h(n): return n\n" + ASK.replace("n_instances)\n", "h(n_instances))\n"),
            "def h(n): return n + 0\n" + ASK.replace("n_instances)\n", "h(n_instances))\n"),
        ),
        (
            "ask = (lambda k: lambda learner, X, n_instances=1: np.arange(n_instances) + k)(1)",
            "ask = (lambda k: lambda learner, X, n_instances=1: np.arange(n_instances) + k)(2)",
        ),
        (
            "def ask(l, X, n_instances=1):\n    return list(map(lambda i: i, range(n_instances)))",
            "def ask(l, X, n_instances=1):\n    return list(map(lambda i: -i, range(n_instances)))",
        ),
        (
            "class A:\n    def f(self, n): return range(n)\n"
            "ask = lambda l, X, n_instances=1: A().f(n_instances)",
            "class A:\n    def f(self, n): return range(n)[::-1]\n"
            "ask = lambda l, X, n_instances=1: A().f(n_instances)",
        ),
    ],
)  # fmt: skip
def test_another_function_of_the_same_name_is_told_apart(one, other):
    assert describe_strategy(function_of(one)) != describe_strategy(function_of(other))


def test_what_wears_the_name_of_another_is_told_by_its_own_code():
    def wearing(step):
        @functools.wraps(aift_sampling)
        def ask(*args, step=step, **kwargs):
            return np.arange(kwargs["n_instances"]) + step

        return ask

    assert describe_strategy(wearing(0)) == describe_strategy(wearing(0))
    assert describe_strategy(wearing(0)) != describe_strategy(wearing(1))
    assert describe_strategy(wearing(0)) != describe_strategy(aift_sampling)
    cached = [functools.lru_cache(function_of(ASK)), functools.lru_cache(function_of(ASK + "\n"))]
    assert describe(cached[0]) == describe(cached[1])
    assert describe(functools.lru_cache(function_of(ASK.replace("arange", "ones")))) != describe(
        cached[0]
    )


def test_attributes_of_a_function_are_settings_unless_it_sets_them():
    def told(**attributes):
        ask = function_of(ASK.replace("    return", "    ask.calls = 3\n    return"))
        for name, value in attributes.items():
            setattr(ask, name, value)
        return describe_strategy(ask)

    assert told(step=1) == told(step=1)
    assert told(step=1) != told(step=2)
    assert told(step=1, calls=7) == told(step=1)


def test_what_a_function_records_is_no_setting():
    counting = (
        "calls = []\n"
        "def make():\n"
        "    n = 0\n"
        "    seen = {}\n"
        "    def ask(learner, X, n_instances=1):\n"
        "        nonlocal n\n"
        "        n += 1\n"
        "        seen[n] = len(X)\n"
        "        calls.append(n)\n"
        "        return np.arange(n_instances)\n"
        "    return ask\n"
        "ask = make()\n"
    )
    ask = function_of(counting)
    before = describe_strategy(ask)
    ask(None, [1, 2, 3], 2)
    assert describe_strategy(ask) == before

    class Counting:
        def __init__(self, step):
            self.step, self.calls, self.asked = step, 0, []

        def __call__(self, learner, X, n_instances=1):
            self.calls += 1
            self.asked.append(n_instances)
            return np.arange(n_instances) * self.step

    strategy = Counting(2)
    before = describe_strategy(strategy)
    strategy(None, [1, 2, 3])
    assert describe_strategy(strategy) == before == describe_strategy(Counting(2))
    assert describe_strategy(Counting(3)) != before
    assert describe_strategy(strategy.__call__) != describe_strategy(Counting(3).__call__)


def test_a_description_is_the_same_in_another_process():
    told = (
        "import functools, numpy as np, torch\n"
        "from torch import nn\n"
        "from aift_sklearn.study.identity import *\n"
        "from aift_sklearn import AIFTClassifier, CNNClassifier, aift_sampling\n"
        "torch.manual_seed(0)\n"
        "K = {'b', 'a', 'c'}\n"
        "def ask(l, X, n_instances=1):\n"
        "    return [i for i in range(n_instances) if i not in {'x', 'y', 'z'} and K]\n"
        "net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
        "net.register_forward_hook(lambda m, i, o: o)\n"
        "print(describe_strategy(ask), describe_strategy(aift_sampling))\n"
        "print(describe_estimator(AIFTClassifier(CNNClassifier(net))))\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True
    ).stdout
    # Sets and addresses differ between processes, so here is as good as another.
    with contextlib.redirect_stdout(io.StringIO()) as here, torch.random.fork_rng():
        exec(told, {"__name__": "__main__"})
    assert here.getvalue() == there
    assert "0x" not in there


# --- estimators


def test_a_default_that_is_given_is_the_same_estimator():
    assert describe_estimator(LogisticRegression(C=1)) == describe_estimator(LogisticRegression())
    one = AIFTClassifier(Pixels(C=1.0), patches=AffinePatches(scale=[0.8, 1.25]), verbose=1)
    other = AIFTClassifier(Pixels(), patches=AffinePatches(scale=(0.8, 1.25)), replay="mixed")
    assert describe_estimator(one) == describe_estimator(other)
    assert describe_estimator(RandomForestClassifier(n_jobs=2)) == describe_estimator(
        RandomForestClassifier(100)
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (AIFTClassifier(CNNClassifier(network(1))), {"estimator.backbone weights"}),
        (AIFTClassifier(CNNClassifier(network(act=nn.GELU))), {"estimator.backbone layers"}),
        (AIFTClassifier(CNNClassifier(network(), lr=0.5)), {"estimator.lr"}),
        (AIFTClassifier(CNNClassifier(network()), replay="all"), {"replay"}),
        (
            AIFTClassifier(CNNClassifier(network(width=5))),
            {"estimator.backbone layers", "estimator.backbone weights"},
        ),
    ],
)
def test_another_network_or_parameter_is_named(changed, named):
    before = describe_estimator(AIFTClassifier(CNNClassifier(network())))
    now = describe_estimator(changed)
    assert {name for name in {**before, **now} if before.get(name) != now.get(name)} == named


def test_networks_are_told_by_all_that_they_compute_with():
    def plain_network(**changed):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.c = nn.Conv2d(3, 2, 3)
                self.act, self.power = torch.relu, 1
                self.register_buffer("shift", torch.zeros(1), persistent=False)

            def forward(self, x):
                return (self.act(self.c(x)) + self.shift) ** self.power

        torch.manual_seed(0)
        net = Net()
        for name, value in changed.items():
            setattr(net, name, value)
        return net

    def told(net):
        return describe_estimator(CNNClassifier(net))

    assert told(plain_network()) == told(plain_network())
    assert told(plain_network().eval()) == told(plain_network())
    for changed in ({"act": torch.tanh}, {"power": 2}, {"shift": torch.ones(1)}):
        assert told(plain_network(**changed)) != told(plain_network()), changed
    frozen = plain_network()
    frozen.c.requires_grad_(False)
    assert told(frozen) != told(plain_network())
    hooked = plain_network()
    hooked.c.register_forward_hook(lambda module, given, out: out * 2)
    assert told(hooked) != told(plain_network())


def test_a_class_of_ones_own_is_its_code():
    def make(factor, base=LogisticRegression):
        class Mine(base):
            """A class of the same name."""

            def predict_proba(self, X):
                return super().predict_proba(X * factor)

        return Mine

    assert describe_estimator(make(1)()) == describe_estimator(make(1)())
    assert describe_estimator(make(1)()) != describe_estimator(make(2)())
    assert describe_estimator(make(1)()) != describe_estimator(make(1, make(3))())


def test_steps_are_told_one_by_one():
    def pipeline(C=1.0, scaler=None):
        return make_pipeline(scaler or StandardScaler(), LogisticRegression(C=C))

    before, now = describe_estimator(pipeline()), describe_estimator(pipeline(0.1))
    changed = {name for name in {**before, **now} if before.get(name) != now.get(name)}
    assert changed == {"steps.logisticregression.C"}
    assert describe_estimator(pipeline(scaler=StandardScaler(with_mean=False))) != before
    voters = [("a", LogisticRegression()), ("b", LogisticRegression(C=2))]
    assert describe_estimator(VotingClassifier(voters)) != describe_estimator(
        VotingClassifier(voters[::-1])
    )


# --- data


def data_of(**changed):
    X, y = make_blobs(20)
    whole = Dataset("blobs", X, y, X[:8], y[:8], np.arange(20) // 2, np.arange(8) + 50, "", "", "")
    return replace(whole, **changed)


def test_data_are_told_by_their_contents():
    before = describe_dataset(data_of())
    assert describe_dataset(data_of(name="other", notes=("a note",))) == before
    wide = data_of().y.astype("<U40")
    assert describe_dataset(data_of(y=wide)) == before
    changed = data_of().X.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert describe_dataset(data_of(X=changed))["pool"] != before["pool"]
    assert describe_dataset(data_of(X_test=changed[:8]))["test set"] == before["test set"]
    turned = describe_dataset(data_of(y=np.roll(data_of().y, 1)))
    assert turned["labels of the pool"] != before["labels of the pool"]
    assert describe_dataset(data_of(X=data_of().X[::-1])) != before
    assert describe_dataset(data_of(X=data_of().X.reshape(20, 3, 8, 32))) != before
    other = data_of(groups=np.arange(20))
    assert describe_dataset(other) == before
    assert describe_dataset(other, groups=True) != describe_dataset(data_of(), groups=True)


def test_random_sampling_is_told():
    assert describe_strategy(random_sampling) == describe_strategy(random_sampling)
    assert describe_strategy(random_sampling) != describe_strategy(aift_sampling)
