"""Names of classes, as folders and lists give them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["label_of_name", "note_similar_names"]


def label_of_name(name: str) -> str:
    """Return the label that a folder's name stands for.

    Composed and decomposed accents give one label, and bytes that are no text are written as
    numbers, since labels are printed and stored.

    Examples
    --------
    >>> label_of_name("naive") == "naive", len(label_of_name("nai" + chr(0x308) + "ve"))
    (True, 5)
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def note_similar_names(labels: Iterable[str]) -> list[str]:
    """Name classes that differ in case or spaces only.

    Examples
    --------
    >>> note_similar_names(["red", "Red", "white"])
    ["the classes 'Red' and 'red' differ in case or spaces only, and are taken for two"]
    """
    alike: dict[str, set[str]] = {}
    for label in set(labels):
        alike.setdefault("".join(label.casefold().split()), set()).add(label)
    return [
        f"the classes {' and '.join(map(repr, sorted(names)))} differ in case or spaces only, and "
        "are taken for two"
        for names in alike.values()
        if len(names) > 1
    ]
