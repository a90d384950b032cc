"""Calibration on the very picture: what a network made up is taken back, what it missed comes from a linear filter."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deice.calibrating import calibrate
from deice.calibration import fit_gains, mixed, noise_power, shells_of
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.errors import MemoryFault
from deice.filters.fitted import radial_wiener
from deice.image import Image
from deice.inference import denoise, denoise_resident
from deice.nets import UNet
from deice.ops.cosine import cosine_radius, cosine_transform, from_cosine_transform
from deice.ops.normalise import Affine
from deice.recipe import Recipe
from deice.schemes import Supervised

SIZE = (320, 352)


class Filter(nn.Module):
    """A network that is a radial filter, and perhaps something worse."""

    def __init__(self, gain, spoil=lambda answer: answer):
        super().__init__()
        self.gain, self.spoil = gain, spoil

    def forward(self, picture):
        coefficients = cosine_transform(picture, 2)
        gain = self.gain(cosine_radius(picture.shape[2:], picture.device, picture.dtype))
        return self.spoil(from_cosine_transform(gain * coefficients, 2))


def model(module, calibrated=True):
    """A model whose tiles need no halo worth the name, of the picture's own size."""
    net = UNet(size=4, depth=1, bias=False)
    facts = {"calibrated": calibrated}
    return Model(module.eval(), 2, None, Recipe(scheme=Supervised(directed=True), net=net), facts)


def scene(seed=0, snr=0.05, size=SIZE, colour=lambda radius: torch.ones_like(radius)):
    """Discs in noise of unit variance and the spectrum `colour`: (truth, noise)."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.zeros(size)
    rows, columns = (torch.randint(0, n, (60,), generator=generator) for n in size)
    places[rows, columns] = 1 + torch.rand(60, generator=generator)
    radius = cosine_radius(size, "cpu", torch.float32)
    disc = torch.exp(-2 * (math.pi * 4 * radius) ** 2) * (radius > 0.004)
    truth = from_cosine_transform(cosine_transform(places, 2) * disc, 2)
    noise = from_cosine_transform(torch.randn(size, generator=generator) * colour(radius), 2)
    return truth * (snr**0.5 / truth.std()), noise / noise.std()


def correlation(one, two):
    return float(np.corrcoef(np.asarray(one).ravel(), np.asarray(two).ravel())[0, 1])


def calibrated(module, picture, **conditions):
    return denoise_resident(Image(picture[None].numpy()), model(module), Conditions(torch.device("cpu"), **conditions))


def low_pass(cutoff):
    return lambda radius: torch.exp(-((radius / cutoff) ** 2))


HALO = Filter(lambda radius: 2.5 * torch.exp(-((radius / 0.06) ** 2)) * (1 - 0.9 * torch.exp(-((radius / 0.02) ** 2))))
NETWORKS = {
    "good": Filter(low_pass(0.05)),
    "strong halos": HALO,
    "noise kept": Filter(low_pass(0.3)),
    "silent": Filter(lambda radius: torch.zeros_like(radius)),
    "inverted": Filter(lambda radius: -low_pass(0.05)(radius)),
    "invents": Filter(low_pass(0.2), lambda answer: answer.abs().sqrt() * 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_never_worse_than_the_radial_wiener_filter_whatever_the_network_says(name):
    truth, noise = scene()
    ours = calibrated(NETWORKS[name], truth + noise)[0][0]
    best = correlation(radial_wiener(truth + noise, truth), truth)
    assert correlation(ours, truth) > best - 0.02
    assert 0.85 < float((torch.as_tensor(ours) * truth).mean() / (truth**2).mean()) / best**2 < 1.15


def test_what_a_good_network_adds_is_kept():
    """A network that knows where the discs are beats every linear filter, and loses nothing of it."""
    truth, noise = scene(snr=0.02)
    there = (truth > truth.quantile(0.85)).float()
    whole = Filter(low_pass(0.05))

    class Knows(nn.Module):
        def forward(self, picture):
            halo = (picture.shape[2] - SIZE[0]) // 2, (picture.shape[3] - SIZE[1]) // 2
            rows, columns = halo
            answer = torch.zeros_like(picture)
            inside = (..., slice(rows, rows + SIZE[0]), slice(columns, columns + SIZE[1]))
            answer[inside] = whole(picture)[inside] * there
            return answer

    knows = model(Knows())
    ours = denoise_resident(Image((truth + noise)[None].numpy()), knows, Conditions(torch.device("cpu")))[0][0]
    bare = denoise((truth + noise).numpy(), replace(knows, facts={}), device="cpu")
    assert correlation(ours, truth) > correlation(radial_wiener(truth + noise, truth), truth) + 0.03
    assert correlation(ours, truth) > correlation(np.asarray(bare), truth) - 0.01


@pytest.mark.parametrize("name", ["good", "noise kept", "invents"])
@pytest.mark.parametrize("falls", [0.0, 0.3], ids=["white", "falling"])
def test_of_pure_noise_almost_nothing_is_left(name, falls):
    _, noise = scene(seed=3, size=(512, 480), colour=lambda radius: 1 - falls * radius)
    left = np.asarray(calibrated(NETWORKS[name], noise)[0][0])
    assert left.std() <= 0.05 * float(noise.std())


def test_the_noise_is_taken_from_the_highest_frequencies_and_goes_on_as_a_line():
    truth, noise = scene(snr=0.1, colour=lambda radius: (1.2 - 0.5 * radius).sqrt())
    shells = shells_of(SIZE)
    power = shells.means(cosine_transform(truth + noise, 2) ** 2)
    (told, _), real = noise_power(power, shells), shells.means(cosine_transform(noise, 2) ** 2)
    many = shells.counts > 1000
    assert many.sum() > 10
    assert torch.allclose(told[many], real[many], rtol=0.1)
    assert (told <= power).all()


def test_shells_hold_enough_frequencies_and_all_of_them():
    for space in ((320, 352), (64, 48, 40), (33, 47)):
        shells = shells_of(space)
        assert shells.counts.sum() == math.prod(space)
        assert shells.counts[:-1].min() >= 30
        assert (shells.centres[1:] > shells.centres[:-1]).all()


def test_equivariant_to_offset_and_scale():
    truth, noise = scene(seed=1, size=(160, 192))
    picture = truth + noise
    one = np.asarray(denoise(picture.numpy(), model(HALO), device="cpu"))
    other = np.asarray(denoise((1000 + 8 * picture).numpy(), model(HALO), device="cpu"))
    assert np.allclose(other, 1000 + 8 * one, atol=8 * 2e-3 * one.std())


def test_the_same_picture_gets_the_same_bits():
    truth, noise = scene(seed=1, size=(160, 192))
    one, two = (calibrated(HALO, truth + noise)[0][0] for _ in range(2))
    assert np.array_equal(one, two)


def test_halves_tell_the_noise_whatever_its_colour():
    """Noise with a hump that no line follows: from the average alone it passes for signal, from halves it does not."""
    def hump(radius):
        return 1 + 3 * torch.exp(-(((radius - 0.1) / 0.04) ** 2))

    truth, first = scene(seed=5, colour=hump)
    _, second = scene(seed=6, colour=hump)
    halves = torch.stack([truth + first, truth + second])
    keeps = model(Filter(low_pass(0.15)))
    both = denoise(halves.numpy(), keeps, device="cpu")
    alone = denoise(halves.mean(0).numpy(), keeps, device="cpu")
    best = radial_wiener(halves.mean(0), truth)
    assert correlation(np.asarray(both), truth) > correlation(best, truth) - 0.02
    assert correlation(np.asarray(both), truth) > correlation(np.asarray(alone), truth) + 0.1


@pytest.mark.parametrize("name", ["good", "strong halos"])
def test_two_thirds_of_the_errors_lie_within_the_standard_error(name):
    truth, noise = scene(seed=2, snr=0.05)
    (answer, _), (error, _) = calibrated(NETWORKS[name], truth + noise, uncertainty=True)
    share = np.mean(np.abs(np.asarray(answer) - truth.numpy()) < np.asarray(error))
    assert 0.58 < share < 0.78
    assert (np.asarray(error) > 0).all()


def test_a_part_of_a_large_picture_tells_of_the_whole(monkeypatch):
    truth, noise = scene(seed=4)
    whole = np.asarray(calibrated(HALO, truth + noise)[0][0])
    monkeypatch.setattr("deice.calibrating.PROBE", {2: 256})
    monkeypatch.setattr("deice.calibrating.MARGIN", {2: 16})
    part = np.asarray(calibrated(HALO, truth + noise)[0][0])
    assert correlation(part, whole) > 0.97


def test_calibration_can_be_asked_for_and_declined():
    truth, noise = scene(seed=1, size=(160, 192))
    picture = Image((truth + noise)[None].numpy())
    cpu = Conditions(torch.device("cpu"))
    bare = denoise_resident(picture, model(HALO, calibrated=False), cpu)[0][0]
    declined = denoise_resident(picture, model(HALO), replace(cpu, calibration=False))[0][0]
    asked = denoise_resident(picture, model(HALO, calibrated=False), replace(cpu, calibration=True))[0][0]
    assert np.array_equal(bare, declined)
    assert np.array_equal(asked, denoise_resident(picture, model(HALO), cpu)[0][0])
    assert not np.allclose(bare, asked)


def test_memory_that_does_not_suffice_is_said_in_a_line():
    class Short(Conditions):
        def memory_left(self):
            return 1000

    picture = torch.randn(64, 64)
    with pytest.raises(MemoryFault, match=r"takes the image whole.* left; grant more .*--no-calibration"):
        calibrate(picture, picture, Affine(), model(HALO), Short(torch.device("cpu")))


def test_volumes_are_calibrated_by_the_same_lines():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(48, 56, 64, generator=generator)
    radius = cosine_radius(noise.shape, "cpu", torch.float32)
    truth = from_cosine_transform(torch.randn(noise.shape, generator=generator) * torch.exp(-((radius / 0.05) ** 2)), 3)
    truth = truth / truth.std() * 0.3
    shells = shells_of(noise.shape)
    y, z = (cosine_transform(field, 3) for field in (truth + noise, torch.randn(noise.shape, generator=generator)))
    gain, power = 3 * torch.exp(-((radius / 0.2) ** 2)), shells.means(z**2)
    gains = fit_gains(y, gain * y, z, gain * z, (power, power * 0 + 0.02), shells)
    ours = from_cosine_transform(mixed(y, gain * y, gains), 3)
    assert correlation(ours, truth) > correlation(radial_wiener(truth + noise, truth), truth) - 0.02
