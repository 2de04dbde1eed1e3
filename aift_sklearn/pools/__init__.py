"""Pools where the images are: read when they are asked for, with an id for every candidate."""

from .arrays import ArrayPool, open_array
from .base import Pool
from .boxed import BoxedImages
from .contact_sheet import contact_sheet
from .dicom import DicomFolder
from .image_folder import ImageFolder, ImageList
from .image_tables import ImageTable
from .opening import open_pool, open_sized
from .slide_overview import draw_slide
from .slides import SlideTiles
from .volumes import VolumePatches

__all__ = [
    "ArrayPool",
    "BoxedImages",
    "DicomFolder",
    "ImageFolder",
    "ImageList",
    "ImageTable",
    "Pool",
    "SlideTiles",
    "VolumePatches",
    "contact_sheet",
    "draw_slide",
    "open_array",
    "open_pool",
    "open_sized",
]
