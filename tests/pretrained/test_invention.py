"""What the packaged model must not do: invent. On pictures whose truth is known; skipped where no model is packaged."""

import math

import numpy as np
import pytest
import torch

from deice import denoise
from deice.bench.picking import pick
from deice.ops.cosine import cosine_radius, filter_mirrored, from_cosine_transform
from deice.pretrained import FOLDER

pytestmark = pytest.mark.skipif(not (FOLDER / "micrographs.safetensors").is_file(), reason="no model is packaged")

CELL, COLUMNS, ROWS = 88, 5, 6  # pixels between particles; of those
RADIUS = 26  # pixels, of a particle
SIZE = (ROWS * CELL, 2 * COLUMNS * CELL)  # particles on the left, empty ice on the right

COLOURS = {
    "white": lambda radius: torch.ones_like(radius),
    "camera": lambda radius: torch.exp(-1.2 * radius),
    "dose-weighted": lambda radius: 0.6 + 0.4 * torch.exp(-((radius / 0.25) ** 2)),
    "binned": lambda radius: torch.cos(0.6 * math.pi * radius.clamp(max=0.5)),
}


def coloured(seed, size, colour):
    """Noise of unit variance with the spectrum `colour`."""
    white = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    noise = from_cosine_transform(white * colour(cosine_radius(size, "cpu", torch.float32)), 2)
    return noise / noise.std()


def particle(seed=1):
    """A dark body of a few lumps with its halo, as a lens shows it; (CELL, CELL), mean 0, standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.zeros(CELL, CELL)
    angles = torch.rand(7, generator=generator) * 2 * math.pi
    lengths = RADIUS * torch.rand(7, generator=generator).sqrt() * 0.7
    rows, columns = (CELL / 2 + lengths * angles.sin()).long(), (CELL / 2 + lengths * angles.cos()).long()
    field[rows, columns] = 1.0
    body = filter_mirrored(field, lambda f: torch.exp(-2 * (math.pi * 6 * f) ** 2), 2)
    body = body - filter_mirrored(body, lambda f: torch.exp(-2 * (math.pi * 24 * f) ** 2), 2)
    fade = torch.hann_window(CELL, periodic=False).sqrt()
    body = -body * fade[:, None] * fade
    return (body - body.mean()) / body.std()


def scene(missing):
    """Particles in rows on the left but for the cell `missing`, empty ice on the right; (*SIZE)."""
    truth = torch.zeros(SIZE)
    for row in range(ROWS):
        for column in range(COLUMNS):
            if (row, column) != missing:
                turned = torch.rot90(particle(), (row + column) % 4)
                truth[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = turned
    return truth


def answered(picture, **how):
    return torch.from_numpy(np.asarray(denoise(picture.numpy(), "pretrained", device="cpu", **how)))


def likeness(picture, row, column):
    """The largest correlation, and the largest product, of a cell of `picture` with the particle in any turn."""
    cell = picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    inside = torch.hypot(*torch.meshgrid(*[torch.arange(CELL) - CELL / 2] * 2, indexing="ij")) < RADIUS + 8
    turned = [torch.rot90(particle(), turn)[inside] for turn in range(4)]
    return (max(float(torch.corrcoef(torch.stack([cell[inside], one]))[0, 1]) for one in turned),
            max(float((cell[inside] * one).mean()) for one in turned))


def blobs(picture):
    """Answers of a blob filter of the particle's size at its maxima, in grey values, highest first."""
    sigma = RADIUS / math.sqrt(2)
    answer = filter_mirrored(picture.double(), lambda f: -((2 * math.pi * sigma * f) ** 2) * torch.exp(
        -((2 * math.pi * sigma * f) ** 2) / 2), 2)
    places = pick(picture, [RADIUS]).centres.long()
    return answer[places[:, 0], places[:, 1]]


@pytest.fixture(scope="module")
def particles():
    """(denoised, the missing cell) of a picture with a signal/noise of 0.04 where there are particles."""
    missing = (3, 2)
    return answered(0.2 * scene(missing) + coloured(5, SIZE, COLOURS["white"])), missing


@pytest.mark.parametrize("colour", COLOURS)
def test_pure_noise_leaves_almost_nothing_and_no_particles(colour, particles):
    noise = coloured(7, (640, 640), COLOURS[colour])
    left = answered(noise)
    assert left.std() <= 0.05
    there = blobs(particles[0])
    working = float(there[ROWS * COLUMNS - 2])  # the threshold at which as many are picked as there are
    assert working > 0
    assert (blobs(left) > working).sum() <= 1


def test_where_a_particle_was_taken_away_none_appears(particles):
    denoised, missing = particles
    empty, _ = zip(*(likeness(denoised, row, column) for row in range(ROWS) for column in range(COLUMNS, 2 * COLUMNS)))
    there, strong = zip(*(likeness(denoised, row, column)
                          for row in range(ROWS) for column in range(COLUMNS) if (row, column) != missing))
    found, strength = likeness(denoised, *missing)
    assert abs(found - np.mean(empty)) < 3 * np.std(empty)
    assert strength < 0.2 * np.median(strong)
    assert np.median(there) > 0.9  # the others are seen, or nothing would be shown by it


def test_equivariant_to_offset_and_scale():
    picture = coloured(9, (320, 320), COLOURS["white"]) + 0.3 * scene(None)[:320, :320]
    one, other = (answered(given, precision="fp32") for given in (picture, 500 + 40 * picture))
    assert torch.allclose(other, 500 + 40 * one, atol=40 * 0.01 * float(one.std()))


@pytest.mark.skipif(not (FOLDER / "tomograms.safetensors").is_file(), reason="no model of volumes is packaged")
@pytest.mark.parametrize("ramp", [1.0, 0.7])
def test_noise_as_tilts_leave_it_leaves_almost_nothing_in_a_volume(ramp):
    """White in each tilt, tilts to 60° about y, back-projected with the weight |κ| to the power `ramp`."""
    space = (40, 72, 72)
    z, y, x = (torch.fft.fftfreq(size).reshape(shape) for size, shape in zip(space, [(-1, 1, 1), (-1, 1), (-1,)]))
    x = x[: space[2] // 2 + 1].abs()
    across = torch.hypot(z, x)  # as many tilts meet a frequency as it is near to the tilt axis
    seen = (z.abs() <= math.tan(math.radians(60)) * x + 1e-6) & (torch.hypot(across, y) <= 0.5)
    white = torch.randn(space, generator=torch.Generator().manual_seed(3))
    noise = torch.fft.irfftn(torch.fft.rfftn(white) * seen * across.clamp_min(0.01) ** (ramp - 0.5), space)
    noise = noise / noise.std()
    assert answered(noise).std() <= 0.05
