"""Small image files for the tests of what reads them."""

import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed=0, size=(12, 10), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def save(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, **options).save(path)
    return path


def sort_into_classes(root, classes=("benign", "malignant"), n=6, first=0):
    """A folder with a subfolder per class, n different pictures in each."""
    for k, label in enumerate(classes):
        for i in range(n):
            save(root / label / f"{i}.png", seed=first + k * n + i)
    return root


def deep_png(path, values):
    """PNG of 16 bits, colour (H, W, 3) or grey (H, W), which Pillow does not write."""
    colour = {2: 0, 3: 2}[values.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    height, width = values.shape[:2]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        crc = zlib.crc32(kind + body)
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)
    path.write_bytes(data)
