"""Files are written in one step, whatever fails, and whoever else writes to the same place."""

import errno
import os
import signal
import stat
import time
import warnings
from pathlib import Path

import pytest
from disks import Died, DyingDisk, FastDisk, FullDisk, RefusingDisk, Unlocked, WatchedDisk, steps_of

from aift_sklearn._writing import FileSet, as_path, lock_folder, write_atomically
from aift_sklearn.errors import DataError, DataTypeError

# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_may_start_at_home(kind, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path(kind("~/models/a")) == tmp_path / "models" / "a"
    assert as_path(kind("~")) == tmp_path
    assert as_path(kind("a/~/b")) == Path("a/~/b")
    assert as_path(kind("~no-such-user/x")) == Path("~no-such-user/x")
    assert as_path("./~") == Path("~")


def test_what_is_no_path_is_refused():
    for value in (3, None, b"bytes"):
        with pytest.raises(DataTypeError, match=rf"{value!r} of type {type(value).__name__}"):
            as_path(value)


# --- one file -------------------------------------------------------------------------------------


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_on_the_disk_before_it_is_in_place(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        synced.append("folder" if is_folder else status.st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    steps = []
    path = write_atomically(tmp_path / "a.txt", "three")
    assert path.read_text() == "three"
    assert synced == [5, "folder"]
    path.unlink()
    disk = WatchedDisk(lambda step, _: steps.append((step, path.exists())))
    write_atomically(path, "three", disk=disk)
    assert steps == [("write", False), ("replace", False), ("sync", True)]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("disk", [FullDisk(0), FullDisk(2), RefusingDisk("a.txt")])
def test_a_file_that_cannot_be_written_stays_as_it_was(disk, before, tmp_path):
    path = tmp_path / "a.txt"
    if before is not None:
        path.write_text(before)
    with pytest.raises(OSError, match=r"No space|in use"):
        write_atomically(path, "new", disk=disk)
    assert names_in(tmp_path) == ([] if before is None else ["a.txt"])
    assert before is None or path.read_text() == before


def test_a_file_that_somebody_has_open_for_a_moment_is_replaced(tmp_path):
    path = write_atomically(tmp_path / "a.txt", "old")
    write_atomically(path, "new", disk=RefusingDisk("a.txt", times=3))
    assert path.read_text() == "new"


def test_places_where_no_file_can_be_are_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder; expected the name of a file"):
        write_atomically(tmp_path, "text")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a part of that path is a file"):
        write_atomically(tmp_path / "file" / "a" / "b.txt", "text")


def test_the_longest_names_are_written(tmp_path):
    for name in ("a" * 255, "µ" * 127):
        assert write_atomically(tmp_path / "new" / name, b"x").read_bytes() == b"x"


def test_two_that_write_the_same_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"

    def other(step, _):
        if step in ("write", "replace"):
            write_atomically(path, "other")

    write_atomically(path, "own", disk=WatchedDisk(other))
    assert path.read_text() == "own"
    assert names_in(tmp_path) == ["a.txt"]


# --- several files --------------------------------------------------------------------------------


def parts_of(head):
    return set(filter(None, head.decode().split(",")))


def is_part(name):
    return name.startswith("part-")


def write_set(folder, contents, *, disk=None):
    """Write a set of parts that are named by their contents."""
    with FileSet(
        folder, "head", parts_of=parts_of, is_part=is_part, disk=disk or FastDisk()
    ) as files:
        names = [f"part-{text}" for text in contents]
        for name, text in zip(names, contents, strict=True):
            files.write(name, text.encode())
        head = ",".join(names).encode()
        files.commit(head, {"card": b"of " + head})


def read_set(folder):
    """Contents of the set; FileNotFoundError where a part is missing."""
    names = (folder / "head").read_text().split(",")
    return [(folder / name).read_text() for name in names]


def files_of(contents):
    return sorted([*{f"part-{text}" for text in contents}, "card", "head"])


OLD, NEW, THIRD = ["a", "b"], ["b", "c"], ["a", "d"]


def test_the_head_is_put_in_place_once_all_else_is_on_the_disk(tmp_path):
    write_set(tmp_path, OLD)
    steps = []
    disk = WatchedDisk(lambda step, path: steps.append((step, path.name)))
    write_set(tmp_path, NEW, disk=disk)
    sync = ("sync", tmp_path.name)
    assert [step for step, _ in steps[:4]] == ["write"] * 4
    assert steps[4:12] == [
        ("lock", tmp_path.name),
        ("replace", "part-b"),
        ("replace", "part-c"),
        sync,
        ("replace", "head"),
        sync,
        ("replace", "card"),
        sync,
    ]
    assert [step for step, _ in steps[12:]] == ["replace", "remove"]
    assert names_in(tmp_path) == files_of(NEW)
    assert (tmp_path / "card").read_text() == "of part-b,part-c"


@pytest.mark.parametrize("before", [OLD, None])
def test_a_writer_that_is_killed_at_any_step_leaves_a_whole_set(before, tmp_path):
    n_steps = steps_of(lambda disk: write_set(tmp_path / "trial", NEW, disk=disk))
    for k in range(n_steps):
        folder = tmp_path / str(k)
        if before:
            write_set(folder, before)
        with pytest.raises(Died):
            write_set(folder, NEW, disk=DyingDisk(k))
        if (folder / "head").exists():
            assert read_set(folder) in (before, NEW)
        else:
            assert before is None
        write_set(folder, THIRD)
        assert read_set(folder) == THIRD
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        write_set(folder, THIRD)
        assert names_in(folder) == files_of(THIRD)


@pytest.mark.parametrize("step", ["write", "replace", "sync", "lock"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_writer_that_fails_at_any_step_tidies_up(step, error, tmp_path):
    for k in range(8):
        folder = tmp_path / str(k)
        write_set(folder, OLD)
        left = k

        class Failing(FastDisk):
            def fail(self):
                nonlocal left
                left -= 1
                if left < 0:
                    raise error

            def write(self, path, data):
                self.fail() if step == "write" else None
                super().write(path, data)

            def replace(self, source, target):
                if step == "replace" and not target.name.startswith("."):
                    self.fail()
                super().replace(source, target)

            def sync(self, folder):
                self.fail() if step == "sync" else None
                super().sync(folder)

            def lock(self, folder, *, shared=False):
                self.fail() if step == "lock" else None
                return super().lock(folder, shared=shared)

        try:
            write_set(folder, NEW, disk=Failing())
        except type(error):
            assert left < 0
        assert read_set(folder) in (OLD, NEW)
        assert names_in(folder) == files_of(read_set(folder))


def test_parts_that_lie_there_already_are_kept_by_a_writer_that_fails(tmp_path):
    write_set(tmp_path, OLD)
    with pytest.raises(PermissionError):
        write_set(tmp_path, [*OLD, "c"], disk=RefusingDisk("head"))
    assert names_in(tmp_path) == files_of(OLD)


@pytest.mark.parametrize("own", [NEW, OLD, THIRD])
@pytest.mark.parametrize("others", [OLD, NEW, THIRD])
def test_another_may_write_at_any_step(own, others, tmp_path):
    n_steps = steps_of(lambda disk: write_set(tmp_path / "trial", own, disk=disk))
    for k in range(n_steps + 4):
        folder = tmp_path / str(k)
        write_set(folder, OLD)
        left = k

        def watch(step, path, folder=folder):
            nonlocal left
            left -= 1
            if left == -1:
                write_set(folder, others, disk=Unlocked())
                assert read_set(folder) == others

        write_set(folder, own, disk=WatchedDisk(watch))
        assert read_set(folder) in (own, others)
        assert not [name for name in names_in(folder) if name.endswith(".tmp")]
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        write_set(folder, THIRD)
        assert names_in(folder) == files_of(THIRD)


def test_a_part_that_is_removed_as_it_is_put_in_place_is_put_back(tmp_path):
    def watch(step, path):
        if (step, path.name) == ("replace", "head"):
            (tmp_path / "part-c").unlink()

    write_set(tmp_path, NEW, disk=WatchedDisk(watch))
    assert read_set(tmp_path) == NEW


def test_a_part_is_not_put_back_for_a_set_that_was_replaced(tmp_path):
    def watch(step, path):
        if step == "sync" and (tmp_path / "head").exists():
            write_set(tmp_path, ["x"], disk=Unlocked())

    write_set(tmp_path, NEW, disk=WatchedDisk(watch))
    assert read_set(tmp_path) == ["x"]
    assert "part-b" not in names_in(tmp_path)


@pytest.mark.parametrize(
    ("disk", "age", "stay"),
    [
        (FastDisk(), 30, {"part-x", ".part-x.0f.tmp", ".head.0f.tmp", ".card.12.tmp"}),
        (FastDisk(), 90, {".part-x.0f.tmp", ".head.0f.tmp", ".card.12.tmp"}),
        (Unlocked(), 90, {"part-x", ".part-x.0f.tmp", ".head.0f.tmp", ".card.12.tmp"}),
        (FastDisk(), 3700, set()),
        (Unlocked(), 3700, set()),
    ],
)
def test_what_nothing_names_is_removed_with_age(disk, age, stay, tmp_path):
    left = ["part-x", ".part-x.0f.tmp", ".head.0f.tmp", ".card.12.tmp"]
    foreign = ["notes", ".notes.tmp", ".notes.0f.tmp", ".part-x.tmp", "part", ".xpart-x.0f.tmp"]
    for name in [*left, *foreign]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_set(tmp_path, OLD, disk=disk)
    assert set(names_in(tmp_path)) == {*files_of(OLD), *foreign, *stay}


def test_ages_are_told_by_the_clock_of_the_file_system(tmp_path):
    class Ahead(FastDisk):
        def write(self, path, data):
            super().write(path, data)
            os.utime(path, (time.time() + 7200,) * 2)

    (tmp_path / "part-x").touch()
    write_set(tmp_path, OLD, disk=Ahead())
    assert names_in(tmp_path) == files_of(OLD)


def test_what_cannot_be_removed_stops_nobody(tmp_path):
    class InUse(FastDisk):
        def replace(self, source, target):
            if is_part(source.name):
                raise PermissionError(errno.EACCES, "in use")
            super().replace(source, target)

    write_set(tmp_path, OLD)
    write_set(tmp_path, NEW, disk=InUse())
    assert read_set(tmp_path) == NEW


def test_folders_are_made_and_unmade(tmp_path):
    with pytest.raises(OSError, match="No space"):
        write_set(tmp_path / "a" / "b" / "c", NEW, disk=FullDisk(1))
    assert names_in(tmp_path) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="No space"):
        write_set(tmp_path / "a" / "b" / "c", NEW, disk=FullDisk(1))
    assert names_in(tmp_path) == ["a"]
    assert names_in(tmp_path / "a") == []


def test_a_folder_that_another_made_and_unmade_is_made_again(tmp_path):
    folder = tmp_path / "a" / "b"

    def watch(step, path):
        folder.rmdir()
        folder.parent.rmdir()

    write_set(folder, NEW, disk=Once(watch))
    assert read_set(folder) == NEW


class Once(WatchedDisk):
    """Lets something happen before the first step alone."""

    def __init__(self, watch):
        def first(*step):
            self.watch = lambda *step: None
            watch(*step)

        super().__init__(first)


# --- locks ----------------------------------------------------------------------------------------


def test_a_lock_holds_off_those_that_ask_for_it(tmp_path):
    with lock_folder(tmp_path) as first:
        assert first
        for shared in (False, True):
            with lock_folder(tmp_path, shared=shared, patience=0.02) as second:
                assert not second
    with lock_folder(tmp_path, shared=True) as one, lock_folder(tmp_path, shared=True) as other:
        assert one
        assert other
        with lock_folder(tmp_path, patience=0.02) as third:
            assert not third
    with lock_folder(tmp_path, patience=0) as again:
        assert again
    assert names_in(tmp_path) == []


def test_a_lock_ends_though_a_child_was_forked_meanwhile(tmp_path):
    with lock_folder(tmp_path) as held, warnings.catch_warnings():
        assert held
        # The child only waits, so that no lock of a thread matters to it.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if not child:
            signal.pause()
    try:
        with lock_folder(tmp_path, patience=0.02) as again:
            assert again
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_where_nothing_can_be_locked_nobody_waits(tmp_path, monkeypatch):
    with lock_folder(tmp_path / "nowhere") as held:
        assert not held

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    start = time.monotonic()
    with lock_folder(tmp_path) as held:
        assert not held
    assert time.monotonic() - start < 1


def test_a_writer_that_waited_in_vain_writes_all_the_same(tmp_path):
    write_set(tmp_path, OLD)

    class Impatient(FastDisk):
        def lock(self, folder, *, shared=False):
            return lock_folder(folder, shared=shared, patience=0.02)

    with lock_folder(tmp_path):
        write_set(tmp_path, NEW, disk=Impatient())
    assert read_set(tmp_path) == NEW
