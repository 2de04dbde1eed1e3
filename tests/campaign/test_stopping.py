"""What speaks for stopping."""

import pytest

from aift_sklearn.campaign.stopping import (
    BatchGain,
    HeldOutInterval,
    LabelsAgree,
    PoolExhausted,
    PredictionsStabilise,
    Progress,
    RoundProgress,
    default_criteria,
)
from aift_sklearn.campaign.yardstick import Performance


def performance(balanced, half=0.05, n=50):
    return Performance(n, 0.8, 0.7, 0.9, balanced, balanced - half, balanced + half)


def progress(rounds, n_left=10, n_open=1):
    return Progress(rounds, n_left, n_open)


def rounds_of(**columns):
    n = len(next(iter(columns.values())))
    return [
        RoundProgress(k, 20 * k, **{name: values[k] for name, values in columns.items()})
        for k in range(n)
    ]


@pytest.mark.parametrize(
    ("kappas", "met"),
    [
        ([None], None),
        ([None, 0.99, 0.99], None),
        ([None, 0.99, 0.99, 0.99], True),
        ([None, 0.2, 0.99, 0.99, 0.99], True),
        ([None, 0.99, 0.99, 0.9], False),
    ],
)
def test_predictions_stabilise(kappas, met):
    assert PredictionsStabilise().judge(progress(rounds_of(kappa=kappas))).met is met


@pytest.mark.parametrize(
    ("asked", "right", "met"),
    [
        ([20], [20], None),
        ([5, 5], [5, 5], None),
        ([20, 20], [19, 19], True),
        ([20, 20], [19, 18], False),
        ([20, 20, 20, 0], [0, 20, 20, 0], True),
    ],
)
def test_labels_agree(asked, right, met):
    found = LabelsAgree().judge(progress(rounds_of(n_asked=asked, n_foreseen=right)))
    assert found.met is met


@pytest.mark.parametrize(
    ("errors", "met"), [([None], None), ([0.4, 0.05], True), ([0.01, 0.06], False)]
)
def test_little_left_to_gain(errors, met):
    assert BatchGain().judge(progress(rounds_of(expected_errors=errors))).met is met


@pytest.mark.parametrize(
    ("values", "options", "met"),
    [
        ([], {}, None),
        ([0.9], {}, None),
        ([0.9], {"target": 0.8}, True),
        ([0.9], {"target": 0.86}, False),
        ([0.6, 0.7, 0.8, 0.9], {}, False),
        ([0.6, 0.88, 0.89, 0.9, 0.9], {}, True),
    ],
)
def test_held_out_interval(values, options, met):
    rounds = rounds_of(performance=[performance(value) for value in values]) if values else []
    assert HeldOutInterval(**options).judge(progress(rounds)).met is met


def test_a_wide_interval_does_not_show_that_a_model_gets_no_better():
    rounds = rounds_of(performance=[performance(0.7, half=0.2)] * 5)
    found = HeldOutInterval().judge(progress(rounds))
    assert found.met is None
    assert "too wide" in found.text


def test_a_yardstick_of_few_labels_tells_nothing():
    rounds = rounds_of(performance=[performance(0.99, n=5)])
    found = HeldOutInterval(target=0.1).judge(progress(rounds))
    assert found.met is None
    assert "5 of the 20" in found.text


@pytest.mark.parametrize(("left", "waiting", "met"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_pool_exhausted(left, waiting, met):
    assert PoolExhausted().judge(progress([], left, waiting)).met is met


def test_nothing_speaks_for_stopping_at_the_beginning():
    verdicts = [each.judge(progress([])) for each in default_criteria()]
    assert [each.met for each in verdicts] == [None, None, None, None, False]
    assert len({each.name for each in verdicts}) == len(verdicts)
