"""Pools of tables with a column of images: Parquet files and Hugging Face datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int
from .._optional import one_line
from .._writing import as_path
from ..errors import DataError, DataTypeError, MissingDependencyError
from ..progress import ProgressBar
from .decoded_images import DecodedImages, try_header
from .decoding import window_of_files
from .image_cache import ImageCache
from .image_headers import ImageFile, ImageHeader, list_some
from .reading import Broken, Surroundings, in_threads, read_by_part
from .table_columns import inside_folder
from .table_parts import Part, open_parts
from .table_schema import GROUPS, IDS, choose_image_column, choose_named_column

__all__ = ["ImageTable"]

Array = NDArray[Any]
RowNumbers = NDArray[np.intp]

# Bytes of encoded images that a pool keeps for the next slice, and of a part that is large.
_KEPT, _LARGE = 256 * 2**20, 2**30
# Images that a window is taken from.
_FOR_WINDOW = 32
# Digits of a row number, at least.
_DIGITS = 6


class ImageTable(DecodedImages):
    """Images in a column of a table as a pool, uint8 (n, C, H, W).

    The table is a Parquet file, a folder of them, a folder that ``save_to_disk`` of Hugging Face's
    datasets wrote, or a ``datasets.Dataset``. Its images are encoded, as PNG or JPEG: bytes, or
    Hugging Face's struct of bytes and path. They are read as `ImageList` reads files, with the same
    treatment of what differs in size, channels and depth.

    When the pool is opened all images are passed by once for their headers. Later the column of
    images is read, and no other one, a row group at a time, and the last is kept for the next
    slice; shards of saved datasets are mapped into memory. Rows in random order read a row group
    for every few images: small row groups, of 100 images, say, suit that.

    Images without bytes are read from their paths, which are relative to the folder of the table.
    A path that may lead out of it is broken, as are images that cannot be decoded and row groups
    that cannot be read.

    Parameters
    ----------
    table : path-like or datasets.Dataset
        The table; or a ``DatasetDict``, or a folder of splits, with ``split``.
    size : int, optional
        As of `ImageList`.
    column : str, optional
        Column of the images; by default that of the type ``Image`` of datasets, else the only one
        that holds bytes.
    id_column : str or None, default="auto"
        Column of what candidates are called. "auto" takes "id" or "ids", where there is one; else,
        and with None, it is the number of the row, from 0 on, in Parquet after the name of the
        file: "train.parquet#000123".
    group_column : str or None, default="auto"
        Column of patients or slides. "auto" takes "group", "groups" or "patient", where there is
        one; ``notes`` say which.
    split : str, optional
        Such as "train", where there are several.
    images : path-like, optional
        Folder that paths in the table are relative to, instead.
    grey, window, strict, verbose
        As of `ImageList`.

    Raises
    ------
    ParameterError
        If several columns or splits could be meant, or there is none of that name.
    DataError
        If the table is damaged, or no image in it can be read.
    MissingDependencyError
        If pyarrow is not installed.

    Examples
    --------
    >>> import io, tempfile
    >>> import pyarrow, pyarrow.parquet
    >>> from PIL import Image
    >>> def png(level):
    ...     file = io.BytesIO()
    ...     Image.new("L", (20, 20), level).save(file, "png")
    ...     return file.getvalue()
    >>> folder = tempfile.mkdtemp()
    >>> table = pyarrow.table({"png": [png(7), png(8), png(9)], "patient": ["a", "a", "b"]})
    >>> pyarrow.parquet.write_table(table, f"{folder}/cells.parquet")
    >>> pool = ImageTable(f"{folder}/cells.parquet", size=16)
    >>> pool.ids.tolist()
    ['cells.parquet#000000', 'cells.parquet#000001', 'cells.parquet#000002']
    >>> pool[[2, 0]][:, 0, 0, 0].tolist(), pool.groups.tolist(), pool.notes
    ([9, 7], ['a', 'a', 'b'], ["groups are those of the column 'patient'"])
    """

    def __init__(
        self,
        table: Any,
        size: int | None = None,
        *,
        column: str | None = None,
        id_column: str | None = "auto",
        group_column: str | None = "auto",
        split: str | None = None,
        images: str | os.PathLike[str] | None = None,
        grey: Literal["auto"] | bool = "auto",
        window: Literal["auto"] | tuple[float, float] = "auto",
        strict: bool = False,
        verbose: int = 0,
    ) -> None:
        if size is not None:
            check_int("size", size, minimum=4)
        stored = open_parts(_as_source(table), split)
        source = stored.source
        self._column = choose_image_column(stored.schema, column, source)
        id_from = choose_named_column(stored.schema, id_column, IDS, "id_column", source)
        group_from = choose_named_column(
            stored.schema, group_column, GROUPS, "group_column", source
        )
        stored.leave_out_others([c for c in (self._column, id_from, group_from) if c is not None])
        if strict and stored.broken:
            name, reason = next(iter(stored.broken.items()))
            raise DataError(f"{name} cannot be read: {reason}.")
        self._parts = stored.parts
        self._folder = stored.folder if images is None else as_path(images)
        self._cache: ImageCache[Any] = ImageCache(_KEPT)
        found = self._scan(id_from, group_from, strict=strict, verbose=verbose)
        if not found.headers:
            raise DataError(_why_none(source, {**stored.broken, **found.broken}))
        super().__init__(
            found.headers,
            found.ids,
            found.groups if group_from is not None else None,
            size=size,
            grey=grey,
            strict=strict,
            broken={**stored.broken, **found.broken},
            source=source,
        )
        self._part = np.array(found.parts, dtype=np.intp)
        self._row = np.array(found.rows, dtype=np.intp)
        self.notes += stored.notes + _notes(self._parts, id_from, group_from)
        self.window = window_of_files(window, self._some_deep() if window == "auto" else [], size)

    def _scan(
        self, id_from: str | None, group_from: str | None, *, strict: bool, verbose: int
    ) -> _Found:
        """Pass by all images for their headers."""
        found, known = _Found([], [], [], [], [], {}), set[str]()
        # Of headers many are alike.
        shared: dict[ImageHeader, ImageHeader] = {}
        n_rows = sum(part.n_rows for part in self._parts)
        with ProgressBar("looking at images", n_rows, enabled=bool(verbose)) as bar:
            for k, part in enumerate(self._parts):
                names, groups, why = _names_of(part, id_from, group_from, n_rows)
                headers = self._headers(k) if why is None else [why] * part.n_rows
                for row, header in enumerate(headers):
                    bar.advance()
                    if names[row] in known:
                        raise DataError(
                            f"the column {id_from!r} gives {names[row]!r} to several rows; "
                            "expected another for each. Pass id_column=None for row numbers."
                        )
                    known.add(names[row])
                    if isinstance(header, ImageHeader):
                        found.add(
                            shared.setdefault(header, header), names[row], groups[row], k, row
                        )
                    elif strict:
                        raise DataError(f"{names[row]} cannot be read: {header.reason}.")
                    else:
                        found.broken[names[row]] = header.reason
        return found

    def _headers(self, k: int) -> Iterable[ImageHeader | Broken]:
        column = self._load(k)
        if isinstance(column, Broken):
            return [column] * self._parts[k].n_rows

        def read(row: int) -> ImageHeader | Broken:
            file = self._file(column[row].as_py())
            return file if isinstance(file, Broken) else try_header(file)

        return in_threads(read, range(len(column)))

    def _some_deep(self) -> list[ImageFile]:
        """Some images that need a window, evenly spread."""
        n = len(self.deep_rows)
        rows = self.deep_rows[np.linspace(0, n - 1, min(_FOR_WINDOW, n)).astype(np.intp)]
        files = self._by_part(rows, lambda row, file: file)
        return [file for file in files if not isinstance(file, Broken)]

    def _read(self, rows: RowNumbers) -> Iterable[Array | Broken]:
        return self._by_part(rows, self._decode)

    def _surroundings(self, row: int) -> Surroundings | None:
        found: Surroundings | Broken | None
        (found,) = self._by_part(np.array([row]), self._decode_whole)
        if isinstance(found, Broken):
            raise DataError(f"{self.ids[row]} cannot be read: {found.reason}.")
        return found

    def _by_part(self, rows: RowNumbers, use: Callable[[int, ImageFile], Any]) -> Iterable[Any]:
        """Call a function with rows and their images, a part of the table at a time."""

        def use_all(rows: RowNumbers) -> list[Any]:
            column = self._load(int(self._part[rows[0]]))
            if isinstance(column, Broken):
                return [column] * len(rows)

            def use_one(row: int) -> Any:
                file = self._file(column[int(self._row[row])].as_py())
                return file if isinstance(file, Broken) else use(row, file)

            return list(in_threads(use_one, rows.tolist()))

        parts = self._part[rows]
        self._cache.ask_for(parts.tolist())
        return read_by_part(rows, parts, use_all, at_most=1)

    def _load(self, k: int) -> Any:
        """Read the images of a part, still encoded, or tell why they cannot be read."""
        column = self._cache.get(k)
        if column is not None:
            return column
        part = self._parts[k]
        try:
            column = part.read([self._column]).column(self._column)
        except (MemoryError, MissingDependencyError):
            raise
        except Exception as error:  # of pyarrow, its codecs and systems of files
            return _broken_part(error)
        self._cache.keep(k, column)
        return column

    def _file(self, value: Any) -> ImageFile | Broken:
        """Find an image by what is in its cell."""
        held = value.get("bytes") if isinstance(value, Mapping) else value
        if held is not None:
            return BytesIO(held)
        name = value.get("path") if isinstance(value, Mapping) else None
        if not name:
            return Broken("no image in its cell")
        if self._folder is None:
            return Broken(
                f"only the name of its file, {name!r}; pass images=, the folder that it lies in"
            )
        # Of data that was loaded here, paths are absolute.
        inside = inside_folder(os.path.relpath(name, self._folder) if os.path.isabs(name) else name)
        if inside is None:
            return Broken(f"its file {name!r} may lie outside of {self._folder}")
        return self._folder / inside


class _Found(NamedTuple):
    """What passing by all images found: of each that can be read, and why others cannot."""

    headers: list[ImageHeader]
    ids: list[str]
    groups: list[str]
    parts: list[int]
    rows: list[int]
    broken: dict[str, str]

    def add(self, header: ImageHeader, name: str, group: str, part: int, row: int) -> None:
        self.headers.append(header)
        self.ids.append(name)
        self.groups.append(group)
        self.parts.append(part)
        self.rows.append(row)


def _as_source(table: Any) -> Any:
    if isinstance(table, (str, os.PathLike)):
        path = as_path(table)
        if not path.exists():
            raise DataError(f"there is no file or folder {path}.")
        return path
    tables = table.values() if isinstance(table, Mapping) else [table]
    if not all(hasattr(one, "select_columns") and hasattr(one, "__len__") for one in tables):
        raise DataTypeError(
            f"the table is of type {type(table).__name__}; expected a path, a datasets.Dataset, or "
            "a DatasetDict. Of one that streams, list(dataset) may fit the memory: "
            "Dataset.from_list(...)."
        )
    return table


def _names_of(
    part: Part, id_from: str | None, group_from: str | None, n_rows: int
) -> tuple[list[str], list[str], Broken | None]:
    """Ids and groups of the rows of a part, or why there are only numbers."""
    digits = max(_DIGITS, len(str(n_rows - 1)))
    start = f"{part.file}#" if part.file else ""
    numbers = [f"{start}{row:0{digits}}" for row in range(part.first, part.first + part.n_rows)]
    wanted = [column for column in (id_from, group_from) if column is not None]
    if not wanted:
        return numbers, numbers, None
    try:
        table = part.read(wanted)
    except (MemoryError, MissingDependencyError):
        raise
    except Exception as error:  # of pyarrow, its codecs and systems of files
        return numbers, numbers, _broken_part(error)
    texts = []
    for column in (id_from, group_from):
        values = numbers if column is None else table.column(column).to_pylist()
        empty = [number for number, value in zip(numbers, values, strict=True) if value is None]
        if empty:
            raise DataError(
                f"the column {column!r} has no value for row {empty[0]}; "
                "expected one in each. Pass id_column=None and group_column=None to do without."
            )
        texts.append([str(value) for value in values])
    return texts[0], texts[1], None


def _broken_part(error: Exception) -> Broken:
    return Broken(f"its part of the table: {one_line(error)}")


def _notes(parts: Sequence[Part], id_from: str | None, group_from: str | None) -> list[str]:
    named = (("ids", id_from), ("groups", group_from))
    notes = [f"{what} are those of the column {name!r}" for what, name in named if name is not None]
    largest = max(part.n_bytes for part in parts)
    if largest > _LARGE:
        notes.append(
            f"row groups of up to {largest / 2**30:.1f} GiB are read at once; to save memory, "
            "write smaller ones: pyarrow.parquet.write_table(table, path, row_group_size=100)"
        )
    return notes


def _why_none(source: str, broken: Mapping[str, str]) -> str:
    if not broken:
        return f"{source} has no rows; expected an image in each."
    few = list_some([f"{name} ({reason})" for name, reason in broken.items()])
    return f"none of the images of {source} can be read: {few}."
