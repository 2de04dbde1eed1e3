"""Tables in Parquet files, saved Hugging Face datasets and datasets in memory, read by parts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from .._optional import load_optional, one_line
from ..errors import AIFTError, DataError, MissingDependencyError, ParameterError
from .folder_contents import count_kinds, files_below
from .image_headers import list_some, printable
from .table_columns import inside_folder

__all__ = ["Part", "StoredTable", "is_saved_dataset", "is_table_file", "load_pyarrow", "open_parts"]

_PARQUET = (".parquet", ".pq")
_STATE, _SPLITS = "state.json", "dataset_dict.json"
# How shards are called on the Hugging Face Hub, and folders of one split.
_SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_SPLIT_FOLDERS = ("train", "training", "validation", "valid", "val", "dev", "test")
# Rows of a dataset in memory that are taken at once.
_ROWS = 256


class RowGroup(NamedTuple):
    """A row group of a Parquet file.

    Attributes
    ----------
    file : str
        What the file is called.
    path : Path
        The file.
    number : int
        Which row group.
    first, n_rows : int
        First row in the file, and number of rows.
    n_bytes : int
        Of memory that it takes to read them.
    file_size : int
        Bytes of the file when it was opened.
    """

    file: str
    path: Path
    number: int
    first: int
    n_rows: int
    n_bytes: int
    file_size: int

    def read(self, columns: Sequence[str]) -> Any:
        """Read columns of the row group, and nothing else of the file."""
        parquet = load_pyarrow("parquet")
        _refuse_changed(self.path, self.file_size)
        with parquet.ParquetFile(self.path, pre_buffer=False) as file:
            return file.read_row_group(self.number, columns=list(columns))


class Shard(NamedTuple):
    """A shard of a saved Hugging Face dataset, which is mapped into memory."""

    path: Path
    first: int
    n_rows: int
    file_size: int
    # Rows are counted through all files.
    file: str = ""
    n_bytes: int = 0

    def read(self, columns: Sequence[str]) -> Any:
        """Map columns of the shard into memory."""
        _refuse_changed(self.path, self.file_size)
        return _map_arrow(self.path).select(list(columns))


class Rows(NamedTuple):
    """Rows of a `datasets.Dataset`."""

    dataset: Any
    first: int
    n_rows: int
    file: str = ""
    n_bytes: int = 0

    def read(self, columns: Sequence[str]) -> Any:
        """Take columns of the rows."""
        chosen = self.dataset.select_columns(list(columns)).with_format("arrow")
        return chosen[self.first : self.first + self.n_rows]


Part = RowGroup | Shard | Rows
"""Rows of a table that are read at once."""


@dataclass
class StoredTable:
    """A table, of which nothing but the columns' types was read.

    Attributes
    ----------
    source : str
        Where it lies.
    schema : Schema of pyarrow
        Its columns.
    parts : list of Part
        Its rows, in order.
    folder : Path or None
        What paths in it are relative to.
    broken : dict of str to str
        File → reason, of those that cannot be opened.
    notes : list of str
        What else was found.
    schemas : dict of str to Schema
        Of each file, where they may differ.
    """

    source: str
    schema: Any
    parts: list[Part]
    folder: Path | None
    broken: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    schemas: dict[str, Any] = field(default_factory=dict)

    def leave_out_others(self, columns: Collection[str]) -> None:
        """Leave out files that lack one of these columns, or have it of another type."""
        for file, schema in self.schemas.items():
            types = {one.name: one.type for one in schema}
            other = [c for c in columns if types.get(c) != self.schema.field(c).type]
            if other:
                self.broken[file] = f"its columns {other} are not those of the first file"
        self.parts = [part for part in self.parts if part.file not in self.broken]


def open_parts(source: Any, split: str | None = None) -> StoredTable:
    """Open a table.

    Parameters
    ----------
    source : Path or datasets.Dataset
        A Parquet file, a folder of such files, a folder that ``save_to_disk`` wrote, or a dataset.
    split : str, optional
        Which part, such as "train", of those that were made for learning and testing.

    Raises
    ------
    ParameterError
        If there are several splits and none is named, or there is no such split.
    DataError
        If it is damaged, or nothing of it can be opened.
    """
    if not isinstance(source, Path):
        return _open_dataset(source, split)
    if (source / _SPLITS).is_file():
        names = _load_json(source / _SPLITS).get("splits")
        if not isinstance(names, list):
            raise DataError(f"{source / _SPLITS} lists no splits.")
        return open_parts(source / _choose_split(str(source), map(str, names), split))
    if source.is_dir() and not is_saved_dataset(source):
        return _open_folder(source, split)
    if split is not None:
        raise ParameterError(f"split={split!r}, but {source} is not made of splits; leave it out.")
    if source.is_dir():
        return _open_saved(source)
    return _open_files(source, {source.name: source})


def is_table_file(path: Path) -> bool:
    """Tell by its name whether a file is a Parquet file."""
    return path.suffix.lower() in _PARQUET


def is_saved_dataset(path: Path) -> bool:
    """Tell whether ``save_to_disk`` of Hugging Face's datasets wrote a folder."""
    return (path / _STATE).is_file() or (path / _SPLITS).is_file()


def load_pyarrow(module: str = "") -> Any:
    """Import pyarrow, or a module of it.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    return load_optional(f"pyarrow.{module}" if module else "pyarrow", purpose="reading tables")


def _open_folder(folder: Path, split: str | None) -> StoredTable:
    files = sorted(files_below(folder))
    tables = [file for file in files if is_table_file(file)]
    others = [file for file in files if not is_table_file(file)]
    if not tables:
        holds = f" It holds {count_kinds(others)}." if others else ""
        raise DataError(f"there are no .parquet files in {folder}.{holds}")
    names = {printable(file.relative_to(folder).as_posix()): file for file in tables}
    splits = {name: _split_of(name) for name in names}
    known = sorted(set(splits.values()) - {""})
    if split is not None or len(known) > 1:
        chosen = _choose_split(str(folder), known, split)
        names = {name: file for name, file in names.items() if splits[name] == chosen}
    found = _open_files(folder, names)
    if others:
        found.notes.append(f"files left out, no tables: {count_kinds(others)}")
    return found


def _open_files(source: Path, files: Mapping[str, Path]) -> StoredTable:
    parquet = load_pyarrow("parquet")
    schemas, broken = dict[str, Any](), dict[str, str]()
    parts: list[Part] = []
    for name, path in files.items():
        try:
            file_size = path.stat().st_size
            with parquet.ParquetFile(path, pre_buffer=False) as file:
                found, metadata = file.schema_arrow, file.metadata
        except MemoryError:
            raise
        except Exception as error:  # of pyarrow and of systems of files
            broken[name] = _why(path, error)
            continue
        schemas[name] = found
        first = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            n_rows, n_bytes = group.num_rows, group.total_byte_size
            parts.append(RowGroup(name, path, number, first, n_rows, n_bytes, file_size))
            first += n_rows
    if not schemas:
        few = list_some([f"{name} ({reason})" for name, reason in broken.items()])
        raise DataError(f"none of {len(broken)} .parquet files of {source} can be read: {few}.")
    folder = source if source.is_dir() else source.parent
    schema = next(iter(schemas.values()))
    return StoredTable(str(source), schema, parts, folder, broken, schemas=schemas)


def _open_saved(folder: Path) -> StoredTable:
    state = _load_json(folder / _STATE)
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        raise DataError(f"{folder / _STATE} lists no files; expected what save_to_disk writes.")
    if state.get("_indices_data_files"):
        raise DataError(
            f"{folder} was saved by an old release, with its rows in another order; load it by "
            "datasets.load_from_disk and pass the dataset, or save it again."
        )
    schema, first = None, 0
    parts: list[Part] = []
    for one in listed:
        name = str(one.get("filename"))
        inside = inside_folder(name)
        if inside is None:
            raise DataError(
                f"{folder / _STATE} names {name!r}, which may lie outside of the folder; expected "
                "what save_to_disk writes."
            )
        try:
            file_size = (folder / inside).stat().st_size
            table = _map_arrow(folder / inside)
            schema = schema or table.schema
            if not schema.equals(table.schema):
                raise DataError("its columns are not those of the first file")
        except (MemoryError, MissingDependencyError):
            raise
        except Exception as error:  # of pyarrow and of systems of files
            raise DataError(f"{folder / inside}: {_why(folder / inside, error)}.") from error
        parts.append(Shard(folder / inside, first, table.num_rows, file_size))
        first += table.num_rows
    if schema is None:
        raise DataError(f"{folder} holds a dataset without a file; expected at least one.")
    return StoredTable(str(folder), schema, parts, folder)


def _open_dataset(dataset: Any, split: str | None) -> StoredTable:
    if isinstance(dataset, Mapping):
        names = [str(name) for name in dataset]
        return _open_dataset(dataset[_choose_split("the dataset", names, split)], None)
    if split is not None:
        raise ParameterError(
            f"split={split!r}, but the dataset is not made of splits; leave it out."
        )
    parts: list[Part] = [
        Rows(dataset, first, min(_ROWS, len(dataset) - first))
        for first in range(0, len(dataset), _ROWS)
    ]
    return StoredTable("the dataset", dataset.features.arrow_schema, parts, None)


def _choose_split(source: str, names: Any, split: str | None) -> str:
    names = list(names)
    if split is None:
        raise ParameterError(
            f"{source} is made of the splits {', '.join(names)}; pass split={names[0]!r}, say, so "
            "that what is meant for testing stays apart."
            if names
            else f"{source} lists no splits."
        )
    if split not in names:
        raise ParameterError(
            f"split={split!r} is none of {source}; expected one of {', '.join(names) or 'none'}."
        )
    # A name that was listed, and no way out of the folder.
    if inside_folder(split) != split or "/" in split:
        raise DataError(f"{source} lists the split {split!r}; expected a name.")
    return split


def _split_of(name: str) -> str:
    """Split that a file of the Hub is of; empty where its name does not tell.

    Examples
    --------
    >>> [_split_of(name) for name in ("data/train-00000-of-00002.parquet", "test/0000.parquet")]
    ['train', 'test']
    >>> _split_of("patient7/0000.parquet")
    ''
    """
    path = PurePosixPath(name)
    if found := _SHARD.fullmatch(path.stem):
        return str(found["split"])
    return next((part for part in path.parts[:-1] if part.lower() in _SPLIT_FOLDERS), "")


def _refuse_changed(path: Path, file_size: int) -> None:
    # Its rows may be others, and ids would be those of other images.
    if path.stat().st_size != file_size:
        raise DataError(f"{path.name} has changed since the pool was opened; open it anew")


def _map_arrow(path: Path) -> Any:
    pyarrow = load_pyarrow()
    with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
        return stream.read_all()


def _load_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object.")
    return content


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, AIFTError):
        return one_line(error)
    return "no such file" if not path.exists() else one_line(error).replace(str(path), path.name)
