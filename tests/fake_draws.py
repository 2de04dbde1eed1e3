"""Draws that end as they are told."""

from __future__ import annotations

import os
import time


def fragile_draw(seed):
    """Draw 2 ends its process, 4 never ends, 5 raises."""
    if seed == 2:
        os._exit(139)
    if seed == 4:
        time.sleep(3600)
    if seed == 5:
        raise RuntimeError("of a network")
    return "agree", f"drawn from {seed}"
