"""Boxes in images, as COCO and Pascal VOC write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import DataError

__all__ = ["coco_images", "coco_objects", "load_json", "read_coco", "read_voc", "voc_files"]

Table = dict[str, list[Any]]


def read_coco(path: Path) -> Table:
    """Read the annotations of a COCO file, JSON.

    Parameters
    ----------
    path : Path
        The file, UTF-8.

    Returns
    -------
    dict of str to list
        The columns image, xmin, ymin, width, height, where, and id where there are ids; not
        checked to be numbers.

    Raises
    ------
    DataError
        If it is no such file; what is damaged is named by its place, counted from 1.
    """
    content = load_json(path)
    names = coco_images(path, coco_objects(path, content, "images"))
    annotations = coco_objects(path, content, "annotations")
    if not annotations:
        raise DataError(f"{path} lists nothing; expected an annotation per candidate.")
    table: Table = {c: [] for c in ("image", "xmin", "ymin", "width", "height", "where")}
    for k, one in enumerate(annotations, 1):
        image, box = names.get(repr(one.get("image_id"))), one.get("bbox")
        if image is None:
            raise DataError(
                f"{path}, annotation {k}: image_id is {one.get('image_id')!r:.80}; expected the id "
                "of an image."
            )
        if not isinstance(box, list) or len(box) != 4:
            raise DataError(
                f"{path}, annotation {k}: bbox is {box!r:.80}; expected [x, y, width, height]."
            )
        for column, value in zip(table, (image, *box, f"annotation {k}"), strict=True):
            table[column].append(value)
    ids = [one.get("id") for one in annotations]
    if any(one is not None for one in ids):
        if None in ids:
            raise DataError(
                f"{path}, annotation {ids.index(None) + 1} has no id; expected one for each, or "
                "none at all."
            )
        table["id"] = ids
    return table


def read_voc(files: Sequence[Path]) -> Table:
    """Read the objects of Pascal VOC files, XML.

    Corners are taken as they are written. A document type is refused, and with it every entity.

    Parameters
    ----------
    files : sequence of Path
        A file per image.

    Returns
    -------
    dict of str to list
        The columns image, xmin, ymin, xmax, ymax and where; not checked to be numbers.

    Raises
    ------
    DataError
        If one is no such file; what is damaged is named by its file and its place, counted from 1.
    """
    table: Table = {c: [] for c in ("image", "xmin", "ymin", "xmax", "ymax", "where")}
    for file in files:
        root = _load_xml(file)
        image = (root.findtext("filename") or "").strip()
        boxes = root.findall("object")
        if root.tag != "annotation" or (boxes and not image):
            raise DataError(
                f"{file}: the root is <{root.tag}>, and the <filename> in it {image!r}; expected "
                "<annotation>, as Pascal VOC has it, and the name of the image."
            )
        for k, box in enumerate(boxes, 1):
            corners = [(box.findtext(f"bndbox/{c}") or "").strip() for c in list(table)[1:-1]]
            if not all(corners):
                raise DataError(
                    f"{file}, object {k}: expected <bndbox> with <xmin>, <ymin>, <xmax> and <ymax>."
                )
            where = f"object {k}" if len(files) == 1 else f"{file.name}, object {k}"
            for column, value in zip(table, (image, *corners, where), strict=True):
                table[column].append(value)
    if not table["image"]:
        others = f" and {len(files) - 1} more have" if len(files) > 1 else " has"
        raise DataError(f"{files[0]}{others} no <object>; expected one per candidate.")
    return table


def voc_files(folder: Path) -> list[Path]:
    """List the XML files of a folder, sorted."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() == ".xml" and not file.name.startswith(".")
    )


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    DataError
        If it is none, with the place.
    """
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno} is not JSON: {error.msg}."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; expected JSON.") from error
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}.") from error


def coco_objects(path: Path, content: Any, name: str) -> list[dict[str, Any]]:
    """Return a part of what a COCO file holds.

    Raises
    ------
    DataError
        If there is none, or it is no list of objects.
    """
    part = content.get(name) if isinstance(content, dict) else None
    if not isinstance(part, list) or not all(isinstance(one, dict) for one in part):
        raise DataError(
            f"{path} has no list {name!r} of objects; expected a COCO file, with 'images' and "
            "'annotations'."
        )
    return part


def coco_images(path: Path, images: list[dict[str, Any]]) -> dict[str, str]:
    """Return file names by the text of their ids.

    Raises
    ------
    DataError
        If one has neither, or two have one id.
    """
    names: dict[str, str] = {}
    for k, image in enumerate(images, 1):
        name = image.get("file_name")
        if not isinstance(name, str) or not name or "id" not in image:
            raise DataError(f"{path}, image {k}: expected an 'id' and a 'file_name'.")
        if names.setdefault(repr(image["id"]), name) != name:
            raise DataError(
                f"{path}, image {k}: another image has the id {image['id']!r:.80}, too."
            )
    return names


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Refuse the only place where entities can be declared, before any is."""

    def doctype(self, *_: Any) -> None:
        raise DataError("it declares a document type; remove <!DOCTYPE ...>, which is not read")


def _load_xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path, ElementTree.XMLParser(target=_WithoutDoctype())).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not readable XML: {error}.") from error
    except (ValueError, LookupError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
