"""Slides that are really encoded, and whose pixels tell where they lie."""

import io

import numpy as np
import tifffile
from PIL import Image

APERIO = "Aperio Image Library v11\n{w}x{h} (64x64) -|AppMag = 20|MPP = {mpp}"


def coordinates(width, height, n_channels=3, dtype=np.uint8):
    """No two tiles are alike, and no tile is its own mirror image."""
    y, x = np.mgrid[:height, :width]
    values = [x % 251, y % 241, x // 7 + 3 * (y // 5), x * y // 11, x + y]
    pixels = np.stack(values[:n_channels], axis=2) % 256
    return (pixels * (1 if dtype == np.uint8 else 13)).astype(dtype)


def stained(width=600, height=400, blobs=((60, 60, 220, 300), (380, 120, 540, 250)), seed=0):
    """Glass with noise, and ellipses of tissue in boxes (left, top, right, bottom)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in blobs:
        across, along = (
            (2 * x - left - right) / (right - left),
            (2 * y - top - bottom) / (bottom - top),
        )
        inside |= across**2 + along**2 <= 1
    pixels = np.where(inside[..., None], (190, 120, 170), (241, 239, 243))
    return np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8), inside


def write_pyramid(path, pixels, n_levels=3, *, kind="subifds", step=2, **options):
    """Write levels, each of every second pixel of the one before; return them."""
    levels = [pixels[:: step**k, :: step**k] for k in range(n_levels)]
    options = {"tile": (64, 64), "compression": "deflate", **options}
    if pixels.shape[-1] in (3, 4) and pixels.ndim == 3:
        options.setdefault("photometric", "rgb")
    with tifffile.TiffWriter(path) as file:
        if kind == "svs":
            height, width = pixels.shape[:2]
            text = APERIO.format(w=width, h=height, mpp=options.pop("mpp", 0.5))
            file.write(levels[0], metadata=None, description=text, **options)
            file.write(levels[-1], metadata=None, photometric="rgb", rowsperstrip=16)
            for level in levels[1:]:
                file.write(level, metadata=None, description=text, **options)
            return levels
        more = {"subifds": n_levels - 1} if kind == "subifds" else {}
        for k, level in enumerate(levels):
            if k:
                options.pop("metadata", None)
                more = {"subfiletype": 1}
            plain = {"metadata": None} if kind == "pages" else {}
            file.write(level, **{**options, **more, **plain})
    return levels


def write_jpeg(path, pixels, n_levels=2, tile=64):
    """Write tiles of JPEG, by Pillow: tifffile stores them, and is told later what they are."""
    levels = [pixels[:: 2**k, :: 2**k] for k in range(n_levels)]
    with tifffile.TiffWriter(path) as file:
        for k, level in enumerate(levels):
            file.write(
                _jpeg_tiles(level, tile),
                shape=level.shape,
                dtype=np.uint8,
                photometric="rgb",
                compression="deflate",
                tile=(tile, tile),
                metadata=None,
                subfiletype=int(k > 0),
            )
    retag(path, Compression=7, PhotometricInterpretation=6)
    return levels


def _jpeg_tiles(pixels, tile):
    for y in range(0, pixels.shape[0], tile):
        for x in range(0, pixels.shape[1], tile):
            part = pixels[y : y + tile, x : x + tile]
            rest = [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)]
            encoded = io.BytesIO()
            whole = Image.fromarray(np.pad(part, rest, mode="edge"))
            whole.save(encoded, "JPEG", quality=95, subsampling=2)
            yield encoded.getvalue()


def retag(path, **values):
    """Overwrite tags of all pages of a file."""
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            for name, value in values.items():
                page.tags[name].overwrite(value)
