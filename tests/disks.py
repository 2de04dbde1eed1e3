"""Disks that are full, refuse, die, or let something happen in between: fakes of `Disk`."""

from __future__ import annotations

import contextlib
import errno

from aift_sklearn._writing import Disk


class FastDisk(Disk):
    """A disk that nothing has to wait for."""

    def write(self, path, data):
        path.write_bytes(data)

    def sync(self, folder):
        pass


class Unlocked(FastDisk):
    """A file system without locks, as many network file systems are."""

    def lock(self, folder, *, shared=False):
        return contextlib.nullcontext(False)


class FullDisk(FastDisk):
    """A disk with so many bytes left."""

    def __init__(self, left):
        self.left = left

    def write(self, path, data):
        if len(data) > self.left:
            super().write(path, data[: self.left])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= len(data)
        super().write(path, data)


class RefusingDisk(FastDisk):
    """A disk that refuses to put files in place whose names start so, a number of times."""

    def __init__(self, start, times=10**6):
        self.start, self.times = start, times

    def replace(self, source, target):
        if target.name.startswith(self.start) and self.times:
            self.times -= 1
            raise PermissionError(errno.EACCES, "in use", str(target))
        super().replace(source, target)


class WatchedDisk(Unlocked):
    """Tells of every step before it is taken; without locks, so that others can step in."""

    def __init__(self, watch):
        self.watch = watch

    def open(self, path):
        self.watch("open", path)
        return super().open(path)

    def write(self, path, data):
        self.watch("write", path)
        super().write(path, data)

    def replace(self, source, target):
        self.watch("replace", target)
        super().replace(source, target)

    def remove(self, path):
        if path.exists():
            self.watch("remove", path)
        super().remove(path)

    def sync(self, folder):
        self.watch("sync", folder)
        super().sync(folder)

    def lock(self, folder, *, shared=False):
        self.watch("lock", folder)
        return super().lock(folder, shared=shared)


class Died(BaseException):
    """The process is no more, and cleans nothing up."""


class DyingDisk(WatchedDisk):
    """A disk of a process that is killed before one of its steps."""

    def __init__(self, n_steps):
        self.left = n_steps
        super().__init__(self.live)

    def live(self, step, path):
        self.left -= 1
        if self.left < 0:
            raise Died


def steps_of(run):
    """How many steps a run over a disk takes."""
    steps = []
    run(WatchedDisk(lambda step, path: steps.append(step)))
    return len(steps)
