"""The missing wedge: its size, its place, and that it goes where the volume goes."""

import numpy as np
import pytest
import torch

from deice.ops.fourier import frequency_radius, half_transform
from deice.ops.tilts import Tilts
from deice.ops.wedge import ends_of, measured, only, power_in_wedge, quarter_turns, ramps, turned

RANGES = [(-60.0, 60.0), (-40.0, 65.0), (-20.0, 30.0), (10.0, 50.0)]


def ramp_windows(tilt_range, shape, at=(0, 0, 0)):
    whole = ramps(tilt_range, [500, 600, 700])
    cut = tuple(slice(a, a + n) for a, n in zip(at, shape))
    return torch.from_numpy(np.stack([ramp[cut] for ramp in whole]))[None]


def mask(tilt_range, shape):
    return measured(ends_of(ramp_windows(tilt_range, shape)), shape)[0, 0]


@pytest.mark.parametrize("tilt_range", RANGES)
def test_the_share_measured_is_that_of_the_angles(tilt_range):
    """In a cylinder about the tilt axis, half a turn in all: the range over 180 degrees."""
    shape = (65, 5, 65)
    found = mask(tilt_range, shape)
    z, x = torch.meshgrid(torch.fft.fftfreq(65), torch.fft.rfftfreq(65), indexing="ij")
    weight = (torch.hypot(z, x) < 0.48) * torch.where(x > 0, 2.0, 1.0)  # x = 0 stands for itself alone
    share = float((found[:, 2] * weight).sum() / weight.sum())
    assert share == pytest.approx((tilt_range[1] - tilt_range[0]) / 180, abs=0.012)


def test_the_sign_of_the_tilts_is_that_of_back_projection():
    """What a series of tilts back-projects to has its power where the wedge of the same angles says."""
    angles = tuple(float(a) for a in range(-20, 61, 4))
    noise = torch.randn(len(angles), 4, Tilts(angles, 48, 48).width, generator=torch.Generator().manual_seed(0))
    volume = Tilts(angles, 48, 48).back_project(noise)
    power = half_transform(volume[None, None], 3).abs().square()[0, 0]
    band = frequency_radius(volume.shape) > 0.1
    shares = {}
    for tilt_range in ((-20.0, 60.0), (-60.0, 20.0)):
        inside = mask(tilt_range, volume.shape).bool() & band
        shares[tilt_range] = float(power[inside].sum() / power[band].sum())
    assert shares[-20.0, 60.0] > 0.9
    assert shares[-60.0, 20.0] < 0.7
    assert power_in_wedge(volume, (-20, 60)) < 0.1
    assert power_in_wedge(volume, (-60, 20)) > 0.3


@pytest.mark.parametrize("shape", [(16, 16, 16), (15, 15, 15)])
@pytest.mark.parametrize("tilt_range", RANGES)
def test_the_wedge_turns_with_the_volume(shape, tilt_range):
    """The mask of the turned ramps is the turned mask: filtering commutes with every turn and flip."""
    windows = ramp_windows(tilt_range, shape, at=(100, 333, 612))
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = only(noise, measured(ends_of(windows), shape).double())
    moves = [lambda v, t=turn: turned(v, t) for turn in quarter_turns()] + [lambda v: v.flip(-1), lambda v: v.flip(-3)]
    for move in moves:
        after = only(move(noise), measured(ends_of(move(windows)), shape).double())
        torch.testing.assert_close(after, move(before))


def test_filtering_twice_is_filtering_once_and_the_parts_add_up():
    shape = (14, 12, 16)
    weight = mask((-50.0, 60.0), shape)[None, None].double()
    noise = torch.randn(1, 1, *shape, dtype=torch.float64)
    kept = only(noise, weight)
    torch.testing.assert_close(only(kept, weight), kept)
    torch.testing.assert_close(kept + only(noise, 1 - weight), noise)
    assert float((kept * only(noise, 1 - weight)).sum()) == pytest.approx(0, abs=1e-8)
    torch.testing.assert_close(kept.mean(), noise.mean())


def test_there_are_24_turns_all_different_and_without_mirror_images():
    corner = torch.arange(27.0).reshape(3, 3, 3)
    seen = {tuple(turned(corner, turn).flatten().tolist()) for turn in quarter_turns()}
    assert len(seen) == 24
    assert len(quarter_turns(moving=True)) == 20
    for order, flips in quarter_turns():
        matrix = np.zeros((3, 3))
        for axis, source in enumerate(order):
            matrix[axis, source] = -1 if axis in flips else 1
        assert np.linalg.det(matrix) == pytest.approx(1)


def test_each_volume_of_a_batch_has_its_own_wedge():
    windows = torch.cat([ramp_windows(r, (12, 12, 12)) for r in RANGES])
    together = measured(ends_of(windows), (12, 12, 12))
    for alone, tilt_range in zip(together, RANGES):
        assert torch.equal(alone[0], mask(tilt_range, (12, 12, 12)))
