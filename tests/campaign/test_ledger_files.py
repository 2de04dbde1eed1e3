"""What a ledger's database is held to, and which files are refused."""

import contextlib
import dataclasses
import importlib
import re
import sqlite3
import subprocess
import sys
import traceback

import psycopg
import pytest
import sqlalchemy as sa
from ledgers import SETTINGS, Files, Schemas, asks_of, named
from postgres import running_server, why_not

from aift_sklearn.campaign.ledger import Ledger, addresses
from aift_sklearn.campaign.ledger.engines import set_up_sqlite
from aift_sklearn.campaign.ledger.schema import SCHEMA, Schema, Step
from aift_sklearn.campaign.ledger.tables import METADATA
from aift_sklearn.campaign.records import Answer, Round, make_uid
from aift_sklearn.errors import LedgerError, MissingDependencyError

GUARDED = ["settings", "rounds", "asks", "answers", "views", "notes"]


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def schemas(server):
    return Schemas(server)


def fill(ledger):
    """Something in every table."""
    ledger.add_round(Round(0, parameters={"b": 2}), asks_of("a", "b", "c", n_readers=2))
    ledger.lease("Bob")
    ledger.answer(Answer(make_uid(), "a", "Ada", label="cyst", visible=("score",)))
    ledger.answer(Answer(make_uid(), "a", "Ada", label="tumour"))
    ledger.answer(Answer(make_uid(), "b", "Ada", "skip"))
    ledger.undo(make_uid(), "Ada")
    ledger.saw("Ada", "a", "pattern")
    ledger.note("learnt", "x", accuracy=0.5)


def contents(ledger):
    """All that a ledger tells."""
    return (
        ledger.settings,
        ledger.rounds(),
        ledger.asks(),
        ledger.answers(),
        ledger.seen("Ada", "a"),
        ledger.notes(),
        ledger.counts(),
    )


@contextlib.contextmanager
def raw(path):
    """A file as any program sees it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def run(ledger, statement):
    """Run a statement on a ledger, past it."""
    with ledger._store.writing() as writing:
        writing.connection.exec_driver_sql(statement)


# What is on the disk.


def test_every_connection_to_a_file_is_safe(files):
    with files.create() as ledger, contextlib.ExitStack() as stack:
        expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}
        for _ in range(3):
            connection = stack.enter_context(ledger._store.reading())
            for name, value in expected.items():
                assert connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() == value
        waits = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        assert waits == 30_000


def test_every_connection_to_a_server_is_safe(schemas):
    with schemas.create(patience=5) as ledger, ledger._store.writing() as writing:
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "lock_timeout": "5s",
            "TimeZone": "UTC",
            "transaction_isolation": "read committed",
        }.items():
            assert writing.connection.exec_driver_sql(f"SHOW {name}").scalar_one() == value


def test_a_server_that_may_lose_answers_is_refused(schemas):
    where = f"{schemas.fresh()}%20-csynchronous_commit%3Doff"
    with pytest.raises(LedgerError, match=r"has synchronous_commit = off; .* a loss of power"):
        Ledger.create(where, SETTINGS)


def test_a_file_that_cannot_be_in_wal_mode_is_refused():
    refused = pytest.raises(LedgerError, match=r"has journal_mode='memory'; expected 'wal'")
    with raw(":memory:") as connection, refused:
        set_up_sqlite(connection, "cells.ledger")


def test_a_server_that_does_not_wait_for_the_disk_is_refused():
    if why_not():
        pytest.skip(why_not())
    refused = pytest.raises(LedgerError, match="has fsync = off; expected on")
    with running_server("fsync=off") as server, refused:
        Ledger.create(server.url(), SETTINGS)


def test_a_database_that_changes_names_is_refused(server):
    with server.connect() as connection:
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(LedgerError, match="has server_encoding = LATIN1; expected UTF8"):
        Ledger.create(server.url("latin"), SETTINGS)


@pytest.mark.parametrize("table", GUARDED)
@pytest.mark.parametrize("change", ["update", "delete"])
def test_rows_stay_as_they_are(ledger, table, change):
    fill(ledger)
    before = contents(ledger)
    column = METADATA.tables[table].c[0].name
    statement = {
        "update": f"UPDATE {table} SET {column} = {column}",
        "delete": f"DELETE FROM {table}",
    }
    with pytest.raises(LedgerError, match=f"{table} is append-only"):
        run(ledger, statement[change])
    assert contents(ledger) == before


@pytest.mark.parametrize("table", GUARDED)
def test_rows_are_not_replaced_either(files, table):
    with files.create() as ledger:
        fill(ledger)
        before = contents(ledger)
        with raw(ledger.where) as connection, pytest.raises(sqlite3.IntegrityError, match="append"):
            connection.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
        assert contents(ledger) == before


@pytest.mark.parametrize("table", GUARDED)
def test_tables_are_not_emptied(schemas, table):
    with schemas.create() as ledger, pytest.raises(LedgerError, match="is append-only"):
        run(ledger, f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "'maybe'"},
        {"label": "''"},
        {"kind": "'undo'", "label": "''"},
        {"candidate": "'nothing'"},
        {"replaces": "'nothing'"},
        {"uid": "'known'"},
    ],
)
def test_the_database_refuses_answers_that_cannot_be(ledger, change):
    ledger.add_round(Round(0), asks_of("a"))
    ledger.answer(Answer("known", "a", "Ada", label="cyst"))
    row = {
        "uid": "'new'",
        "candidate": "'a'",
        "annotator": "'Ada'",
        "kind": "'label'",
        "label": "'cyst'",
        "said": "'[]'",
        "visible": "'[]'",
        "replaces": "NULL",
        "origin": "''",
        "time": "'2026-03-01T12:00:00.000000+00:00'",
    }
    insert = "INSERT INTO answers ({}) VALUES ({})"
    changed = row | change
    with pytest.raises(LedgerError, match="the database refuses"):
        run(ledger, insert.format(", ".join(changed), ", ".join(changed.values())))
    run(ledger, insert.format(", ".join(row), ", ".join(row.values())))
    assert len(ledger.answers()) == 2


def test_statements_name_the_columns_that_there_are(ledger):
    with ledger._store.reading() as connection:
        look = sa.inspect(connection)
        for name, table in METADATA.tables.items():
            found = [column["name"] for column in look.get_columns(name)]
            assert sorted(found) == sorted(table.c.keys())
            assert look.get_pk_constraint(name)["constrained_columns"] == table.primary_key.c.keys()


# What is no ledger.


@pytest.mark.parametrize("content", [b"", b"id,label\na.png,cyst\n", bytes(5000)])
def test_other_files_are_no_ledgers(files, content):
    path = files.fresh()
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"is no ledger.*Ledger.create makes one"):
        Ledger.open(path)
    with pytest.raises(LedgerError, match="exists already, and is left as it is"):
        Ledger.create(path, SETTINGS)
    assert path.read_bytes() == content


def test_folders_and_missing_files_are_no_ledgers(files):
    with pytest.raises(LedgerError, match="is a folder; expected a ledger"):
        Ledger.open(files.folder)
    with pytest.raises(LedgerError, match="is a folder; expected the name of a new file"):
        Ledger.create(files.folder, SETTINGS)
    with pytest.raises(LedgerError, match=r"there is no ledger at .*; Ledger.create"):
        Ledger.open(files.folder / "none")
    with files.create() as ledger, pytest.raises(LedgerError, match="cannot be made"):
        Ledger.create(ledger.where / "inside", SETTINGS)
    Ledger.create(files.folder / "new" / "folder" / "cells", SETTINGS).close()


def test_databases_of_something_else_are_no_ledgers(files):
    path = files.fresh()
    with raw(path) as connection:
        connection.execute("CREATE TABLE meta (name, content)")
        connection.execute("INSERT INTO meta VALUES ('version', '1')")
    with pytest.raises(LedgerError, match="a SQLite file of something else"):
        Ledger.open(path)
    with raw(path) as connection:
        connection.execute("PRAGMA application_id=1095321172")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with pytest.raises(LedgerError, match="a SQLite file of something else"):
        Ledger.open(path)


def test_a_damaged_file_is_refused(files):
    with files.create() as ledger:
        ledger.add_round(Round(0), asks_of(*(f"cell-{number}" for number in range(500))))
    data = bytearray(ledger.where.read_bytes())
    # Cut off; pages overwritten; the last page alone, which nothing needs at first.
    for damage in (slice(81_920, None), slice(20_480, 102_400), slice(-4096, len(data))):
        path = files.fresh()
        changed = data.copy()
        changed[damage] = b"" if damage.stop is None else b"\x07" * len(changed[damage])
        path.write_bytes(changed)
        with pytest.raises(LedgerError, match=r"is damaged.*backup"):
            Ledger.open(path)
        assert path.read_bytes() == changed


EVIL = [
    "CREATE TRIGGER evil AFTER INSERT ON answers BEGIN DELETE FROM leases; END",
    "CREATE VIEW evil AS SELECT * FROM answers",
    "CREATE TABLE evil (x)",
    "CREATE INDEX evil ON answers (upper(label))",
    "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "DROP TRIGGER answers_no_update",
    "DROP INDEX asks_in_order",
    "ALTER TABLE answers ADD COLUMN evil DEFAULT 5",
    "DROP TRIGGER answers_no_delete; CREATE TRIGGER answers_no_delete BEFORE DELETE ON answers "
    "BEGIN SELECT 1; END",
    "DROP TABLE leases; CREATE VIEW leases AS SELECT 'a' AS candidate",
    "DROP TABLE meta; CREATE VIEW meta AS SELECT 'version' AS name, '1' AS content",
]


@pytest.mark.parametrize("statements", EVIL)
def test_a_strangers_file_is_refused_before_it_is_used(files, statements):
    with files.create() as ledger:
        fill(ledger)
    with raw(ledger.where) as connection:
        connection.executescript(statements)
    before = ledger.where.read_bytes()
    with pytest.raises(
        LedgerError, match=r"is not as this package makes|of something else"
    ) as told:
        Ledger.open(ledger.where)
    if "of something else" not in str(told.value):
        name = re.search(r"evil|\w+_no_\w+|asks_in_order|leases|answers", statements)[0]
        assert repr(name) in str(told.value)
    assert ledger.where.read_bytes() == before


def test_statistics_of_sqlite_are_no_strangers(files):
    with files.create() as ledger:
        fill(ledger)
        before = contents(ledger)
    with raw(ledger.where) as connection:
        connection.execute("ANALYZE")
    with Ledger.open(ledger.where) as again:
        assert contents(again) == before


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO notes (time, kind, text, content) VALUES ({}, 'x', '', '[')",
        "INSERT INTO notes (time, kind, text, content) VALUES ('?', 'x', '', '{{}}')",
        "INSERT INTO asks VALUES ('z', 0, 0, 'evil', NULL, '', '[]', 1)",
        "INSERT INTO settings (time, content) VALUES ({}, '')",
    ],
)
def test_values_that_no_ledger_has_are_told(files, change):
    with files.create() as ledger:
        fill(ledger)
    with raw(ledger.where) as connection:
        connection.execute(change.format("'2026-03-01T12:00:00.000000+00:00'"))
    with (
        Ledger.open(ledger.where) as ledger,
        pytest.raises(LedgerError, match=r"holds a value that no ledger has .* damaged"),
    ):
        contents(ledger)


@pytest.mark.parametrize(
    ("statement", "named_in_error"),
    [
        ("DROP TRIGGER answers_append_only ON answers", "'answers_append_only' of 'answers'"),
        ("ALTER TABLE answers DISABLE TRIGGER answers_append_only", "'answers_append_only'"),
        (
            "CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN RETURN NULL; END'",
            "'answers_append_only'",
        ),
        (
            "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
            "CREATE TRIGGER evil BEFORE INSERT ON leases FOR EACH ROW EXECUTE FUNCTION evil()",
            "the trigger 'evil' of 'leases'",
        ),
        ("CREATE RULE evil AS ON INSERT TO notes DO INSTEAD NOTHING", "the table 'notes'"),
        ("ALTER TABLE queue RENAME TO queued", "the table 'queue'"),
        ("ALTER TABLE views ENABLE ROW LEVEL SECURITY", "the table 'views'"),
    ],
)
def test_a_database_that_was_changed_is_refused(schemas, statement, named_in_error):
    with schemas.create() as ledger:
        run(ledger, statement)
    with pytest.raises(LedgerError, match=f"is not as this package makes.*{named_in_error}"):
        Ledger.open(ledger.where)


# Versions.

NEXT = Schema(
    (
        *SCHEMA.steps,
        Step(("ALTER TABLE notes ADD COLUMN author {text}", "CREATE TABLE extra (seq {number})")),
    )
)


def test_an_older_ledger_is_led_to_this_version_and_kept(places):
    with places.create() as ledger:
        fill(ledger)
        before = contents(ledger)
    with Ledger.open(ledger.where, schema=NEXT, clock=ledger.clock) as newer:
        assert contents(newer) == before
        run(newer, "INSERT INTO extra (seq) VALUES (1)")
        newer.note("learnt", "")
        if isinstance(places, Schemas):
            with newer._store.reading() as connection:
                kept = connection.exec_driver_sql("SELECT count(*) FROM answers_version_1")
                assert kept.scalar_one() == len(newer.answers())
    with Ledger.open(ledger.where, schema=NEXT) as again:
        assert len(again.notes()) == 2
    with pytest.raises(LedgerError, match=r"version 2, of a newer release .* up to 1. Update"):
        Ledger.open(ledger.where)
    if isinstance(places, Files):
        kept = ledger.where.with_name(ledger.where.name + ".version-1")
        with Ledger.open(kept) as older:
            assert contents(older) == before
        assert len(list(places.folder.iterdir())) == 2


def test_an_update_that_fails_leaves_the_ledger_as_it_was(places):
    with places.create() as ledger:
        fill(ledger)
        before = contents(ledger)
    broken = Schema((*SCHEMA.steps, Step(("CREATE TABLE extra (seq {int})", "CREATE NONSENSE"))))
    for _ in range(2):
        with pytest.raises(LedgerError, match="NONSENSE"):
            Ledger.open(ledger.where, schema=broken)
    with Ledger.open(ledger.where) as again:
        assert contents(again) == before
    if isinstance(places, Files):
        names = sorted(path.name for path in places.folder.iterdir())
        assert names == [ledger.where.name + end for end in ("", ".version-1", ".version-1-2")]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "of a newer release"),
        ("0", "which there never was"),
        ("x", "damaged"),
        ("", "damaged"),
    ],
)
def test_versions_that_are_not_known_are_refused(places, version, message):
    with places.create() as ledger:
        run(ledger, f"UPDATE meta SET content = '{version}' WHERE name = 'version'")
    with pytest.raises(LedgerError, match=message):
        Ledger.open(ledger.where)


# What goes wrong while it is open.


def test_a_file_that_is_locked_for_long_says_so(files):
    with files.create(patience=0.2) as ledger:
        ledger.add_round(Round(0), asks_of("a"))
        with raw(ledger.where) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError, match=r"locked by another program.*send it again"):
                ledger.lease("Ada")
            assert named(ledger.asks()) == ["a"]
        assert named(ledger.lease("Ada")) == ["a"]


def test_a_database_that_is_locked_for_long_says_so(schemas):
    with schemas.create(patience=0.2) as ledger, Ledger.open(ledger.where) as other:
        with other._store.writing():
            with pytest.raises(LedgerError, match=r"locked by another program.*send it again"):
                ledger.note("x", "")
            assert ledger.notes() == []
        ledger.note("x", "")


def test_threads_that_wait_for_long_say_so(places):
    with (
        places.create(patience=0.2) as ledger,
        ledger._store.writing(),
        pytest.raises(LedgerError, match="others have been writing to it for"),
    ):
        ledger.note("x", "")


FILL = """
import resource, signal, sys
from aift_sklearn.campaign.ledger import Ledger
from aift_sklearn.errors import LedgerError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger.open(sys.argv[1]) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        for number in range(1000):
            ledger.note("x", str(number) * 1000)
            print(number, flush=True)
    except LedgerError as error:
        print(error)
    found = [note.text[:3] for note in ledger.notes()]
    print(len(found))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of files here")
def test_a_full_disk_keeps_what_was_acknowledged(files):
    with files.create() as ledger:
        pass
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(ledger.where)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    *acknowledged, error, n_read = done.stdout.splitlines()
    assert acknowledged
    assert re.search("the disk (is full|refuses).*Nothing of this call was kept", error)
    assert int(n_read) == len(acknowledged)
    with Ledger.open(ledger.where) as again:
        assert [note.text for note in again.notes()] == [name * 1000 for name in acknowledged]


def end_connection(server, connection):
    """Let a server end a connection, as it does when it stops."""
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with server.connect() as other:
        other.execute(f"SELECT pg_terminate_backend({pid})")


def write_after_end(server, ledger):
    with ledger._store.writing() as writing:
        end_connection(server, writing.connection)
        writing.connection.exec_driver_sql("SELECT 1")


def test_a_server_that_is_gone_says_so_and_is_found_again(schemas):
    with schemas.create() as ledger:
        ledger.add_round(Round(0), asks_of("a"))
        with pytest.raises(LedgerError, match=r"ended the connection. Send it again"):
            write_after_end(schemas.server, ledger)
        assert named(ledger.lease("Ada")) == ["a"]
        # One that waits to be used.
        with ledger._store.engine.connect() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with schemas.server.connect() as other:
            other.execute(f"SELECT pg_terminate_backend({pid})")
        assert named(ledger.lease("Ada")) == ["a"]


# Addresses and passwords.


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("mysql://ada:secret@host/cells", "does not lie in mysql; expected the path"),
        ("postgresql+asyncpg://ada:secret@host/cells", "does not lie in postgresql.asyncpg"),
        ("postgresql://ada:secret@host:port/cells", "no URL of a ledger"),
        ("://ada:secret@", "no URL of a ledger"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_other_databases_are_refused(where, message):
    with pytest.raises(LedgerError, match=message) as told:
        Ledger.open(where)
    assert "secret" not in "".join(traceback.format_exception(told.value))


def test_a_file_has_a_url_too(files):
    where = f"sqlite:///{files.fresh()}"
    with Ledger.create(where, SETTINGS):
        pass
    with Ledger.open(sa.make_url(where)) as ledger:
        assert ledger.settings == SETTINGS


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://ada:s3cret%2F@{host}/nowhere?host={folder}",
        "postgresql://ada@/nowhere?host={folder}&password=s3cret/",
        "postgresql://ada:s3cret%2F@localhost:1/nowhere",
    ],
)
def test_passwords_are_not_shown(schemas, where):
    where = where.format(host="", folder=schemas.server.folder)
    with pytest.raises(LedgerError, match="postgresql") as told:
        Ledger.open(where)
    assert "s3cret" not in "".join(traceback.format_exception(told.value))
    address = addresses.find_address(where)
    assert "s3cret" not in repr(address) + str(address) + address.shown
    assert address.hide("of s3cret%2F, s3cret/") == "of ***, ***"


def refuse(store, said):
    with store.reading():
        raise sa.exc.OperationalError("SELECT 1", {}, psycopg.OperationalError(said))


def test_passwords_are_not_shown_where_a_driver_does(schemas):
    # Not in one word, which would be shown as a line of this test.
    secret = "".join(["s3", "cret"])
    where = schemas.fresh().replace("tester@", f"tester:{secret}@")
    with Ledger.create(where, SETTINGS) as ledger:
        assert secret not in repr(ledger)
        with pytest.raises(LedgerError, match=r"tester:\*\*\*@.*password \*\*\* is wrong") as told:
            refuse(ledger._store, f"password {secret} is wrong")
        assert secret not in "".join(traceback.format_exception(told.value))
        with pytest.raises(LedgerError, match=r"out of luck") as told:
            refuse(ledger._store, "out of luck")
        assert isinstance(told.value.__cause__, sa.exc.OperationalError)


def test_a_ledger_needs_sqlalchemy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    for module in [m for m in sys.modules if m.startswith("aift_sklearn.campaign.ledger")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingDependencyError, match=r'pip install "\.\[campaign\]"'):
        importlib.import_module("aift_sklearn.campaign.ledger")


def test_postgresql_needs_its_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependencyError, match=r"needs psycopg, .*\[postgresql\]"):
        Ledger.open("postgresql://ada@localhost/cells")


# Copies.


def test_a_backup_is_a_ledger_with_the_same_in_it(places, tmp_path):
    with places.create() as ledger:
        fill(ledger)
        path = ledger.backup(tmp_path / "copies" / "monday")
        before = contents(ledger)
        questions = ledger.lease("Bob")
        ledger.note("later", "")
        with pytest.raises(LedgerError, match="exists already, and is left as it is"):
            ledger.backup(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["monday"]
    with Ledger.open(path, clock=ledger.clock) as copy:
        assert contents(copy) == before
        assert copy.lease("Bob") == questions
        copy.answer(Answer(make_uid(), "c", "Ada", label="cyst"))


def test_a_backup_that_fails_leaves_nothing(files):
    with files.create() as ledger:
        fill(ledger)
        before = sorted(files.folder.iterdir())
        for path in (ledger.where / "copy", files.folder):
            with pytest.raises(LedgerError, match=r"cannot be made|is a folder"):
                ledger.backup(path)
        assert sorted(files.folder.iterdir()) == before


def test_nothing_is_left_of_a_ledger_that_could_not_be_made(files):
    broken = dataclasses.replace(SCHEMA, steps=(Step(("CREATE NONSENSE",)),))
    with pytest.raises(LedgerError, match="NONSENSE"):
        Ledger.create(files.fresh(), SETTINGS, schema=broken)
    assert list(files.folder.iterdir()) == []
