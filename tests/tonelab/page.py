"""A fax page to send, and whether it is the one that came: bi-level TIFFs, as T.4 has them."""

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH = 1728
"""Pixels of an A4 line at 204 dots an inch (ITU-T T.4)."""
_X_DPI, _Y_DPI = 204.0, 98.0


def write_page(path: Path, lines: int = 200, seed: int = 0) -> Path:
    """A page of bars, text-like specks and white, at standard resolution."""
    rng = np.random.default_rng(seed)
    black = np.zeros((lines, WIDTH), np.bool_)
    for top in range(8, lines - 12, 24):
        words = np.repeat(rng.random(WIDTH // 16) < 0.45, 16)
        black[top : top + 12, : len(words)] = words & (np.repeat(rng.random((12, WIDTH // 4)), 4, axis=1) < 0.5)
    black[-4:] = True
    Image.fromarray(~black).save(path, format="TIFF", compression="group4", dpi=(_X_DPI, _Y_DPI))
    return path


def pixels(path: Path) -> np.ndarray:
    """bool [lines, width], True is white; empty when there is no page."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("1"), np.bool_)
    except OSError:
        return np.zeros((0, WIDTH), np.bool_)


def wrong_lines(sent: Path, came: Path) -> int:
    """Lines that are not as they were sent, those that did not come included."""
    before, after = pixels(sent), pixels(came)
    both = min(len(before), len(after))
    differ = int((before[:both] != after[:both]).any(axis=1).sum()) if before.shape[1:] == after.shape[1:] else both
    return differ + max(len(before), len(after)) - both
