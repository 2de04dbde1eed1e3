"""Warnings and log records of one thread are dropped, and those of others are not."""

import logging
import pickle
import sys
import threading
import warnings

import pytest
from PIL import Image

from aift_sklearn._warnings import silence_loggers, silent_thread
from aift_sklearn.pools import ImageFolder


def warn():
    warnings.warn("odd", stacklevel=2)


@pytest.mark.parametrize("action", ["error", "always", "default"])
def test_warnings_inside_are_ignored_whatever_the_filters(action):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter(action)
        with silent_thread():
            warn()
            with silent_thread():
                warn()
            warn()
        assert heard == []
        # A filter that came after the first block.
        warnings.simplefilter(action)
        with silent_thread():
            warn()
        assert heard == []


def test_warnings_outside_are_heard():
    with silent_thread():
        pass
    with pytest.warns(UserWarning, match="odd"):
        warn()


def test_silence_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), silent_thread():
        _ = 1 / 0
    with pytest.raises(UserWarning, match="odd"):
        warn()


def test_other_threads_are_heard():
    heard = []

    def other():
        try:
            warn()
        except UserWarning as warning:
            heard.append(str(warning))
        logging.getLogger("chatty.deep").warning("logged")

    with silent_thread():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        warn()
    assert heard == ["odd"]


def test_filters_can_be_sent_to_other_processes():
    with silent_thread():
        assert pickle.loads(pickle.dumps(list(warnings.filters)))


def test_loggers_of_a_package_and_of_its_modules(caplog):
    for name in ("chatty.deep", "chattier"):
        logging.getLogger(name)
    for _ in range(2):
        silence_loggers("chatty")
    with silent_thread():
        for name in ("chatty", "chatty.deep", "chattier"):
            logging.getLogger(name).error(f"inside {name}")
    logging.getLogger("chatty.deep").error("outside")
    assert [record.getMessage() for record in caplog.records] == ["inside chattier", "outside"]
    assert len(logging.getLogger("chatty").filters) == 1


@pytest.fixture
def hasty():
    """Threads that take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_reading_images_in_threads_leaves_the_filters_as_they_are(tmp_path):
    for k in range(100):
        Image.new("L", (8, 8)).save(tmp_path / f"{k}.png")
    with silent_thread():
        before = list(warnings.filters)
    for _ in range(3):
        ImageFolder(tmp_path)[:]
    assert list(warnings.filters) == before
