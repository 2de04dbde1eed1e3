"""Waiting for what other processes do."""

import time


def wait_until(condition, seconds=60, pause=0.01):
    """Wait for a condition, looked at after every pause, and return what it became."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(pause)
    return found
