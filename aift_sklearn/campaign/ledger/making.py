"""Ledgers are made, found, and led from an older version to this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import LedgerError
from .addresses import Address, find_address
from .checks import check_settings
from .copies import copy_ledger, free_name, new_file
from .schema import Schema, make_tables
from .sql import sa
from .store import Clock, Store, Writing
from .strangers import check_file, check_postgresql, holds_tables
from .tables import METADATA, settings

__all__ = ["make_ledger", "open_ledger"]


def make_ledger(
    address: Address,
    values: Mapping[str, Any],
    schema: Schema,
    *,
    clock: Clock | None,
    patience: float,
) -> Store:
    """Make a ledger that holds its settings and nothing else.

    Parameters
    ----------
    address : Address
        Where; there must be none.
    values : mapping
        Settings.
    schema : Schema
        Its tables.
    clock, patience
        As of `Store`.

    Raises
    ------
    LedgerError
        If there is something already, or it cannot be written.
    """
    checked = check_settings(values)
    if address.path is None:
        store = Store(address, clock=clock, patience=patience)
        try:
            with store.writing() as writing:
                _refuse_tables(writing.connection, address)
                _fill(writing, checked, schema)
        except BaseException:
            store.close()
            raise
        return store
    with new_file(address.path) as temporary:
        store = Store(find_address(temporary), clock=clock, patience=patience)
        try:
            with store.writing() as writing:
                _fill(writing, checked, schema)
        finally:
            store.close()
    return Store(address, clock=clock, patience=patience)


def _refuse_tables(connection: sa.Connection, address: Address) -> None:
    names = holds_tables(connection)
    if names:
        raise LedgerError(
            f"{address.shown} has tables called {', '.join(names)} already, and is left as it is. "
            "Ledger.open goes on with a ledger; or name another database, or a schema of it that "
            "exists: URL?options=-csearch_path%3DNAME."
        )


def _fill(writing: Writing, values: dict[str, Any], schema: Schema) -> None:
    make_tables(writing.connection, schema)
    row = {"time": writing.now, "content": values}
    writing.connection.execute(sa.insert(settings), row)


def open_ledger(address: Address, schema: Schema, *, clock: Clock | None, patience: float) -> Store:
    """Open a ledger; an older one is led to this version first, and a copy of it is kept.

    Parameters
    ----------
    address : Address
        Where.
    schema : Schema
        What this release knows.
    clock, patience
        As of `Store`.

    Raises
    ------
    LedgerError
        If there is none, or it is damaged, of a newer release, or not as it should be.
    """
    version = None if address.path is None else check_file(address.path, schema)
    store = Store(address, clock=clock, patience=patience)
    try:
        if version is None:
            with store.reading() as connection:
                version = check_postgresql(connection, address.shown, schema)
        if version < schema.version:
            _update(store, version, schema)
    except BaseException:
        store.close()
        raise
    return store


def _update(store: Store, version: int, schema: Schema) -> None:
    path = store.address.path
    if path is not None:
        copy_ledger(store, free_name(path.with_name(f"{path.name}.version-{version}")), schema)
    with store.writing() as writing:
        # Another process may have been faster.
        if _version_now(writing.connection) == version:
            if path is None:
                _keep_tables(writing.connection, version)
            make_tables(writing.connection, schema, after=version)
    if path is not None:
        check_file(path, schema)


def _version_now(connection: sa.Connection) -> int:
    text = connection.exec_driver_sql("SELECT content FROM meta WHERE name = 'version'")
    return int(text.scalar_one())


def _keep_tables(connection: sa.Connection, version: int) -> None:
    """Copy tables to others beside them: a server may have no disk of ours."""
    for name in METADATA.tables:
        connection.exec_driver_sql(f"CREATE TABLE {name}_version_{version} AS TABLE {name}")
