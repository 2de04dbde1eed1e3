"""Messages of the library in the words of the command line."""

import inspect

import pytest
import typer

from aift_sklearn import cli
from aift_sklearn.cli.wording import _OPTIONS, speak_options
from aift_sklearn.study.studies import run_study


@pytest.mark.parametrize(
    ("message", "spoken"),
    [
        ("Pass size=64, say.", "Pass --size 64, say."),
        ("expected one. size=64", "expected one. --size 64"),
        ("test_fraction=0.4, since", "--test-fraction 0.4, since"),
        ("test_fraction=0.4.", "--test-fraction 0.4."),
        ("a larger test_fraction (at most 0.5)", "a larger --test-fraction (at most 0.5)"),
        ("try another random_state, or", "try another --split-seed, or"),
        ("n_rounds x n_instances = 96", "--rounds x --batch = 96"),
        ("groups=True, but", "--groups, but"),
        ("trusted=['a.B', 'c.D'] builds", "--trusted a.B --trusted c.D builds"),
        ("size='3by4'; expected", "--size 3by4; expected"),
        ("size=None; expected", "--size None; expected"),
        ("shape=(3, 64, 64)", "--size 3x64x64"),
        ("model='not one'", "--model 'not one'"),
        ("the option size does not apply", "the option --size does not apply"),
        ("from: load(folder, trusted=['a.B', 'c.D']).", "from: --trusted a.B --trusted c.D."),
        ("pass shape=(C, H, W).", "pass --size CxHxW."),
        # Words of the language, names of files and other parameters stay.
        ("2 groups of one size; strategy 'x'", "2 groups of one size; strategy 'x'"),
        ("study/max_pool.csv and my_n_rounds", "study/max_pool.csv and my_n_rounds"),
        ("providers='auto'", "providers='auto'"),
    ],
)
def test_parameters_become_options(message, spoken):
    assert speak_options(message) == spoken


def test_every_option_that_is_spoken_of_exists():
    commands = typer.main.get_command(cli.app).commands.values()
    known = {option for command in commands for p in command.params for option in p.opts}
    assert set(_OPTIONS.values()) <= known


def test_every_parameter_of_a_study_is_translated():
    parameters = inspect.signature(run_study).parameters.keys()
    # Those that no message of the library names with a value.
    assert parameters - _OPTIONS.keys() == {"out", "models", "reference", "verbose"}
