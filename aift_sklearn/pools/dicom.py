"""Pools of DICOM files, in which nobody is named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._checks import check_int, check_option
from .._warnings import silent_thread
from .._writing import as_path
from ..errors import DataError, ParameterError
from .base import Pool
from .decoding import (
    at_most,
    check_window,
    find_window,
    refuse_several_sizes,
    scale_array,
    square_in,
    to_bytes,
)
from .dicom_files import DicomFile, look_below, require_pydicom, why_unopened
from .dicom_headers import (
    DicomHeader,
    LeftOut,
    Unreadable,
    count_reasons,
    describe_images,
    settings_of,
)
from .dicom_windows import show_by_file
from .image_headers import list_some
from .reading import Broken, Surroundings, in_threads
from .salted_names import SaltedNames, find_salt

__all__ = ["DicomFolder"]

Array = NDArray[Any]
Values = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_LEVELS = ("patient", "study", "series")
_SEE = "pool.broken names them, and pool.file_of(name) says where they lie"
# Frames of one file that a thread reads before others may take the next.
_AT_ONCE = 8


class DicomFolder(Pool):
    """All DICOM images in a folder and below as a pool, uint8 (n, C, H, W).

    DICOM files are known by what they hold, whatever they are called. Headers are read when the
    pool is opened; pixels when they are asked for, by several threads, with pydicom and the
    decoders that it finds. C is 1 where every image is grey, else 3. Candidates come in the order
    of their files, and each frame of a file of several is one.

    Grey values are taken in the modality's units (Hounsfield units of CT), scaled, and mapped to 0
    to 255 by a window; MONOCHROME1 is inverted then, so that bright is bright everywhere. Palettes
    and YBR become RGB; of colours of more than 8 bits the upper 8 are kept. Overlays are not drawn,
    and pixels are taken for squares.

    **Nobody is named.** Ids and groups are salted hashes, and neither they nor messages, notes or
    ``broken`` hold anything of a header or of a file's name; `path_of` and `file_of` find the
    files again, on the machine where they are. What is drawn in the pixels stays there: a note
    counts the files that say so.

    Parameters
    ----------
    path : path-like
        The folder. No message names it, unless it is not there.
    size : int, optional
        Height and width in pixels: the middle square of each image is scaled to it, by averaging
        where that makes it smaller. Needed where images differ in size.
    window : "auto", "file" or (float, float), default="auto"
        What is shown as black and as white.

        - "auto": one window for all images of a kind, so that a shade means the same in all of
          them, which is what a network learns from: the values that all but a thousandth of the
          pixels of some of them lie between. Of CT, and wherever values are rescaled to a unit, a
          kind is the modality. Elsewhere values mean nothing beyond how they are stored, and a kind
          is the modality with MONOCHROME1 or 2 and the bits: radiographs of 10 bits are not dark
          beside those of 14, nor inverted ones beside others. What has 8 bits is left as it is.
          Padding does not count.
        - "file": what each file asks for, as a radiologist would see it; the first where there are
          several, "auto" where there is none. The same tissue may have another shade in the next
          file, and a window that was set by hand may tell what was found.
        - (darkest, brightest): the same for every grey image, in the modality's units, such as
          (-160, 240) for soft tissue in CT.
    frames : "all", "first", "middle" or int, default="all"
        Which frames of a file are candidates; a number counts from 0, and files that have fewer
        frames are left out.
    groups : "patient", "study", "series" or None, default="patient"
        What belongs together. Where the patient has no number the study counts, where that has
        none the series, and else each file is by itself.
    salt : str or bytes, optional
        What ids and groups are made with; the same salt makes the same ids wherever the files lie.
        Whoever has it can find out which id is a patient's, so it is a secret, of 16 characters or
        more. By default it is made at random, once, and kept in the file ``.aift-salt`` in the
        folder, which only its owner can read; where the folder cannot be written, in
        ``~/.config/aift-sklearn``. Pass one where several people or machines share labels.
    strict : bool, default=False
        Raise at the first file that cannot be read, rather than leave it out.
    verbose : int, default=0
        1 shows a progress bar while headers are read.

    Attributes
    ----------
    windows : dict of str to (float, float)
        Kind of image → its window; of colours there is none.

    Raises
    ------
    DataError
        If there is no such folder, no DICOM image in it that can be read, or they differ in size
        and ``size`` is not given.
    MissingDependencyError
        If pydicom is not installed.

    Examples
    --------
    >>> import shutil, tempfile
    >>> from pydicom.data import get_testdata_file
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("CT_small.dcm", "rtdose.dcm"):
    ...     _ = shutil.copy(get_testdata_file(name, download=False), folder)
    >>> pool = DicomFolder(folder, size=32, window=(-160, 240), salt="of this example")
    >>> pool
    DicomFolder: 16 candidates, 1 × 32 × 32 uint8, 2 groups
    >>> pool.ids[:2].tolist()
    ['dcm-cfddaa938f818178', 'dcm-4b5e943c23d472e4/0']
    >>> pool.path_of(pool.ids[0]).name
    'CT_small.dcm'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | None = None,
        *,
        window: Literal["auto", "file"] | tuple[float, float] = "auto",
        frames: Literal["all", "first", "middle"] | int = "all",
        groups: Literal["patient", "study", "series"] | None = "patient",
        salt: str | bytes | None = None,
        strict: bool = False,
        verbose: int = 0,
    ) -> None:
        if size is not None:
            check_int("size", size, minimum=4)
        check_option("groups", groups, (*_LEVELS, None))
        shown_by, from_file = _check_window(window), _check_frames(frames)
        require_pydicom()
        self.path = as_path(path)
        if not self.path.is_dir():
            raise DataError(f"there is no folder {self.path}.")
        looks = look_below(self.path, verbose=bool(verbose))
        left_out = Counter(look.what for look in looks.values() if isinstance(look, LeftOut))
        if left_out.total() == len(looks):
            holds = f" It holds {_count(left_out)}." if left_out else ""
            raise DataError(f"there are no DICOM images in the folder.{holds}")

        # Nothing that the names are made with is kept: a pool may be pickled and passed on.
        names = SaltedNames(find_salt(self.path) if salt is None else salt)
        self._named: dict[str, Path] = {}

        def name_file(file: Path) -> str:
            name = "file-" + names("file", file.relative_to(self.path).as_posix())
            self._named[name] = file
            return name

        broken = {
            name_file(file): look.reason for file, look in looks.items() if isinstance(look, Broken)
        }
        if strict and broken:
            name, reason = next(iter(broken.items()))
            raise DataError(f"{name} cannot be read: {reason}.")
        reasons = count_reasons(broken.values())
        headers = {file: look for file, look in looks.items() if isinstance(look, DicomHeader)}
        if not headers:
            raise DataError(f"no DICOM image in the folder can be read: {reasons}.")
        notes = [f"left out: {_count(left_out)}"] if left_out else []
        notes += [f"cannot be read: {reasons}; {_SEE}"] if broken else []
        notes += _drop_repeated(headers, name_file)
        chosen = _choose_frames(headers, from_file, notes)
        notes += describe_images(list(headers.values()))
        ids, own = _name_candidates(headers, chosen, names, groups or "", self.path)
        super().__init__(
            (len(ids), *_shape(list(headers.values()), size)),
            np.uint8,
            ids,
            own if groups else None,
            strict=strict,
            broken=broken,
        )
        self.notes += notes
        self.size, self._by_file = size, shown_by == "file"
        self._paths = list(headers)
        self._kinds = [header.kind for header in headers.values()]
        self._file = np.repeat(np.arange(len(chosen)), [len(of_file) for of_file in chosen])
        self._frame = np.array([frame for of_file in chosen for frame in of_file])
        self.windows = self._find_windows(headers, shown_by)

    def _path(self, row: int) -> Path:
        return self._paths[int(self._file[row])]

    def file_of(self, name: str) -> Path:
        """Return the file of a name in ``broken`` or ``notes``, such as one that is no image.

        Raises
        ------
        DataError
            If no file has this name.
        """
        if name in self._named:
            return self._named[name]
        return self.path_of(name)

    def _find_windows(
        self, headers: dict[Path, DicomHeader], window: str | tuple[float, float]
    ) -> dict[str, tuple[float, float]]:
        kinds = np.array(self._kinds)[self._file]
        stored = {header.kind: header.stored for header in headers.values()}
        found = {}
        for kind in sorted(set(kinds.tolist()) - {""}):
            own = stored[kind]
            if not isinstance(window, str):
                found[kind] = window
            elif own is not None:
                found[kind] = own
            else:
                found[kind] = find_window(self._values, np.flatnonzero(kinds == kind))
        return found

    def _values(self, row: int) -> Values | None:
        """Values of a grey candidate, as they are, padding aside."""
        with silent_thread():
            try:
                with DicomFile(self._paths[self._file[row]]) as dicom:
                    values, padding = dicom.values(int(self._frame[row]))
            except MemoryError:
                raise
            except Exception:  # pydicom raises whatever its decoders do
                return None
        values[padding] = np.nan
        return values

    def reading(self) -> dict[str, Any]:
        """Size, which else follows from what there is."""
        return {"size": self.size}

    def _read(self, rows: NDArray[np.intp]) -> Iterable[Array | Broken]:
        # Of one file together, so that its header is read once.
        runs = []
        for _, run in groupby(rows.tolist(), key=lambda row: int(self._file[row])):
            same = list(run)
            runs += [same[k : k + _AT_ONCE] for k in range(0, len(same), _AT_ONCE)]
        for pixels in in_threads(self._read_run, runs):
            yield from pixels

    def _read_run(self, rows: Sequence[int]) -> list[Array | Broken]:
        """Read frames of one file."""
        file = int(self._file[rows[0]])
        with silent_thread():
            try:
                with DicomFile(self._paths[file]) as dicom:
                    return [self._read_frame(dicom, row) for row in rows]
            except MemoryError:
                raise
            except Exception as error:  # as of a file that is gone
                return [Broken(why_unopened(error))] * len(rows)

    def _read_frame(self, dicom: DicomFile, row: int) -> Array | Broken:
        try:
            pixels = self._pixels(dicom, row, self.size)
        except MemoryError:
            raise
        except Exception as error:  # pydicom raises whatever its decoders do
            return Broken(dicom.why_unreadable(error))
        if pixels.shape[1:] != self.shape[2:]:
            return Broken("pixels of another size than its header said")
        return np.broadcast_to(pixels, self.shape[1:])

    def _surroundings(self, row: int) -> Surroundings | None:
        """All of an image of which the candidate is the middle square, scaled."""
        with silent_thread(), DicomFile(self._paths[int(self._file[row])]) as dicom:
            try:
                pixels = self._pixels(dicom, row, None)
            except MemoryError:
                raise
            except Exception as error:  # pydicom raises whatever its decoders do
                why = dicom.why_unreadable(error)
                raise DataError(f"{self.ids[row]} cannot be read: {why}.") from error
        if pixels.shape[1:] == self.shape[2:]:
            return None
        height, width = pixels.shape[1:]
        return Surroundings(at_most(pixels), square_in(width, height))

    def _pixels(self, dicom: DicomFile, row: int, size: int | None) -> Bytes:
        """Read a frame, (1 or 3, h, w), its middle square scaled where a size is given."""
        frame, kind = int(self._frame[row]), self._kinds[int(self._file[row])]
        if not kind:
            return scale_array(dicom.colours(frame), size).transpose(2, 0, 1)
        values, _ = dicom.values(frame)
        if not np.isfinite(values).all():
            raise Unreadable("values that are not finite")
        values = scale_array(values, size)
        shown = show_by_file(values, settings_of(dicom.header, frame)) if self._by_file else None
        if shown is None:
            shown = to_bytes(values, self.windows[kind])
        return (255 - shown if dicom.inverted else shown)[None]


def _check_window(window: Any) -> str | tuple[float, float]:
    if not isinstance(window, str):
        return check_window(window, "'auto', 'file'")
    check_option("window", window, ("auto", "file"))
    return window


def _check_frames(frames: Any) -> str | int:
    if not isinstance(frames, str):
        return check_int("frames", frames, minimum=0)
    check_option("frames", frames, ("all", "first", "middle"))
    return frames


def _drop_repeated(headers: dict[Path, DicomHeader], name_file: Callable[[Path], str]) -> list[str]:
    """Leave out images that have the number of one before, and say so."""
    seen: set[str] = set()
    repeated = []
    for file, header in headers.items():
        if header.instance in seen:
            repeated.append(file)
        elif header.instance:
            seen.add(header.instance)
    for file in repeated:
        del headers[file]
    if not repeated:
        return []
    named = list_some([name_file(file) for file in repeated])
    return [f"left out: files with the SOP Instance UID of another ({len(repeated)}): {named}"]


def _choose_frames(
    headers: dict[Path, DicomHeader], frames: str | int, notes: list[str]
) -> list[range]:
    """Choose the frames of each image, and leave out those that have none of them."""
    most = max(header.n_frames for header in headers.values())
    if isinstance(frames, int) and frames >= most:
        raise ParameterError(f"frames={frames}; expected a number below {most}.")
    chosen = {file: _frames_of(header.n_frames, frames) for file, header in headers.items()}
    few = [file for file, of_file in chosen.items() if not of_file]
    for file in few:
        del headers[file], chosen[file]
    if few:
        notes.append(f"left out: images without a frame {frames} ({len(few)})")
    return list(chosen.values())


def _frames_of(n: int, frames: str | int) -> range:
    if frames == "all":
        return range(n)
    frame = {"first": 0, "middle": (n - 1) // 2}.get(str(frames), frames)
    return range(int(frame), min(int(frame) + 1, n))


def _name_candidates(
    headers: dict[Path, DicomHeader],
    chosen: Sequence[range],
    names: SaltedNames,
    level: str,
    folder: Path,
) -> tuple[list[str], list[str]]:
    """Name candidates and what they belong to."""
    ids: list[str] = []
    groups: list[str] = []
    for (file, header), frames in zip(headers.items(), chosen, strict=True):
        # Hexadecimal digits alone a spreadsheet may take for a number.
        name = "dcm-" + names("instance", header.instance or file.relative_to(folder).as_posix())
        ids += [f"{name}/{frame}" if header.n_frames > 1 else name for frame in frames]
        group = name
        for each in reversed(_LEVELS[_LEVELS.index(level) :] if level else ()):
            group = names(each, getattr(header, each)) if getattr(header, each) else group
        groups += [group] * len(frames)
    return ids, groups


def _shape(headers: Sequence[DicomHeader], size: int | None) -> tuple[int, int, int]:
    if size is None:
        refuse_several_sizes({header.size for header in headers})
    width, height = (size, size) if size is not None else headers[0].size
    return 1 if all(header.grey for header in headers) else 3, height, width


def _count(left_out: Counter[str]) -> str:
    return ", ".join(f"{what} ({n})" for what, n in left_out.most_common())
