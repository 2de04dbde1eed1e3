"""Networks drawn at random agree or step aside; ``make no-silent-difference`` draws 300."""

import pytest

pytest.importorskip("onnxruntime", reason="the extra cpu is not installed")
pytest.importorskip("onnxscript", reason="the extra cpu is not installed")

import random_networks
from blocks import run_in_blocks
from fake_draws import fragile_draw


@pytest.mark.parametrize("seed", [3, 8, 13])
def test_drawn_networks_agree(seed):
    assert random_networks.draw(seed)[0] == "agree"


def test_a_drawn_network_that_no_graph_can_be_steps_aside_with_the_reason():
    outcome, what = random_networks.draw(21)
    assert outcome == "aside"
    assert "linalg_matrix_exp" in random_networks.kind_of(what)


def test_what_crashes_hangs_or_raises_is_reported_and_the_rest_of_its_block_is_drawn():
    drawn = run_in_blocks(fragile_draw, range(7), n_processes=2, size=5, timeout=3)
    found = {seed: (outcome, what) for seed, outcome, what in drawn}
    assert sorted(found) == [*range(7)]
    assert {seed for seed in found if found[seed] == ("agree", f"drawn from {seed}")} == {
        0,
        1,
        3,
        6,
    }
    assert found[2] == ("crash", "its process ended with exit status 139")
    assert found[4] == ("crash", "it took more than 3 s")
    assert found[5] == ("crash", "RuntimeError: of a network")
