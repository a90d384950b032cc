"""Gain references: turned and flipped as RELION does, brought to the movie's grid, made multiplicative.

Order (RELION's --gain_rot, then --gain_flip; MotionCor's -RotGain, then -FlipGain): the reference is first
rotated by quarter turns clockwise, as seen with the first row on top, and the rotated reference is then flipped.
"""

import logging
from pathlib import Path

import numpy as np

from deice.errors import FileFault, RecipeFault, UserError

log = logging.getLogger(__name__)

UPSIDE_DOWN, LEFT_RIGHT = 1, 2  # RELION's --gain_flip


def turn(gain: np.ndarray, rotation: int, flip: int) -> np.ndarray:
    """`gain` (y, x) rotated by `rotation` × 90° clockwise, then flipped: 1 = in y (upside down), 2 = in x."""
    if rotation not in (0, 1, 2, 3):
        raise RecipeFault(f"--gain-rot {rotation}: expected 0, 1, 2 or 3 (times 90 degrees clockwise)")
    if flip not in (0, UPSIDE_DOWN, LEFT_RIGHT):
        raise RecipeFault(f"--gain-flip {flip}: expected 0, 1 (upside down) or 2 (left to right)")
    gain = np.rot90(gain, -rotation)
    return {0: gain, UPSIDE_DOWN: gain[::-1], LEFT_RIGHT: gain[:, ::-1]}[flip]


def match_grid(gain: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`gain` (y, x) on the grid `shape` where one is a whole multiple of the other (4k, 8k, 16k); else as it is.

    To a finer grid pixels are repeated, to a coarser one they are averaged.
    """
    (rows, columns), (y, x) = gain.shape, shape
    if y % rows == 0 and y // rows * columns == x:
        return gain.repeat(y // rows, axis=0).repeat(y // rows, axis=1)
    if rows % y == 0 and rows // y * x == columns:
        step = rows // y
        return gain.reshape(y, step, x, step).mean((1, 3), dtype=np.float64)
    return gain


def check_shape(path: Path, gain: np.ndarray, shape: tuple[int, int], rotation: int) -> None:
    """UserError where the turned gain does not fit the movie; it says which rotations would."""
    if gain.shape == shape:
        return
    fits = "no rotation fits"
    if gain.shape == shape[::-1]:
        fits = f"--gain-rot {(rotation + 1) % 4} or {(rotation + 3) % 4} would fit"
    (rows, columns), (y, x) = gain.shape, shape
    raise UserError(f"{path}: a gain of {columns} x {rows} pixels, but the movie has {x} x {y}; {fits}")


def inverted(path: Path, gain: np.ndarray) -> np.ndarray:
    """mean / gain, and 0 where gain is 0: an EER .gain is a mean picture, a pixel that never counts is a defect."""
    if not np.any(gain):
        raise FileFault(path, "a gain of zeros only; expected a mean picture")
    return np.divide(gain.mean(dtype=np.float64), gain, out=np.zeros(gain.shape), where=gain != 0)


def cleaned(path: Path, gain: np.ndarray) -> np.ndarray:
    """`gain` as float32 with 0, dead, for what is not finite or negative; said once."""
    bad = ~np.isfinite(gain) | (gain < 0)
    if bad.any():
        log.warning("%s: %d pixels not finite or negative are taken as dead", path, int(bad.sum()))
    gain = np.where(bad, 0, gain).astype(np.float32)
    if not gain.any():
        raise FileFault(path, "a gain without one positive value; expected a gain reference")
    return gain
