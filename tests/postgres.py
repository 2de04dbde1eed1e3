"""A server of PostgreSQL for tests: one of its own, in a folder of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

_OPTIONS = ("listen_addresses=", "max_connections=60", "shared_buffers=32MB", "autovacuum=on")


def find_programs():
    """Folder with initdb and postgres, the newest; None where there is none."""
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: float(path.parent.name),
        reverse=True,
    )
    found = shutil.which("initdb")
    places += [Path(found).resolve().parent] if found else []
    return next((path for path in places if (path / "postgres").exists()), None)


def why_not():
    """Why no server can be started here; empty if one can."""
    if find_programs() is None:
        return "PostgreSQL is not installed"
    if os.geteuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no user called postgres"
    return ""


def _user():
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return None


class Server:
    """A server that runs."""

    def __init__(self, folder, process):
        self.folder, self.process = folder, process

    def url(self, database="postgres"):
        """URL of a database; connections go through a socket in the server's folder."""
        return f"postgresql+psycopg://tester@/{database}?host={self.folder}"

    def connect(self, database="postgres"):
        """Connect to a database without SQLAlchemy; every statement commits."""
        return psycopg.connect(
            host=str(self.folder), user="tester", dbname=database, autocommit=True
        )

    def new_database(self):
        """Make an empty database; return its name."""
        name = f"t{uuid.uuid4().hex}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        return name


@contextlib.contextmanager
def running_server(*options):
    """Run a server of PostgreSQL.

    Parameters
    ----------
    *options : str
        Settings: "fsync=off".

    Yields
    ------
    Server
        Stopped, and its data removed, afterwards.
    """
    programs = find_programs()
    # It refuses to run as root.
    user = _user() if os.geteuid() == 0 else None
    as_user = (
        {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    )
    # A socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        command = [programs / "initdb", "-D", folder / "data", "-U", "tester", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, **as_user
        )
        assert done.returncode == 0, done.stdout + done.stderr
        settings = [part for each in (*_OPTIONS, *options) for part in ("-c", each)]
        command = [programs / "postgres", "-D", folder / "data", "-k", folder, *settings]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
                **as_user,
            )
        try:
            server = Server(folder, process)
            _wait_for(server)
            yield server
        finally:
            # At once: what it would still write is removed anyway.
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _end_with_parent():
    """Let the system stop the server when the tests are killed and cannot."""
    with contextlib.suppress(OSError, AttributeError):
        # PR_SET_PDEATHSIG, of Linux.
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _wait_for(server, patience=60):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError), server.connect():
            return
        time.sleep(0.05)
    raise AssertionError((server.folder / "log").read_text())
