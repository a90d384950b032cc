"""Tomograms drawn afresh: tilted as the simulator tilts, their noise where tilts measured, their truth without any."""

import math
import time
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.metrics import correlation
from deice.ops.fourier import half_transform
from deice.ops.tilts import Tilts
from deice.ops.wedge import ends_of, measured, ramps
from deice.recipe import from_table
from deice.training import run
from deice.worlds.drawn import WORLDS, Tomograms
from deice.worlds.drawn.bodies import Bodies, build_bodies
from deice.worlds.drawn.cells import MEMBRANES, Contents, draw_contents, potential
from deice.worlds.drawn.tilting import LAST_TILT, MOST_TILTS, draw_tilts, series_of
from deice.worlds.drawn.tomograms import DOSE, PIXEL, SIGNAL_TO_NOISE, draw_facts, reconstructed
from deice.worlds.matter import EXCESS_POTENTIAL, RESIDUE_VOLUME

CPU = torch.device("cpu")
FEW_PROTEINS = Tomograms(proteins=6)
SHAPE = (32, 40, 48)
ODD_TILTS = {"first": np.array([-60.0, -40.0]), "last": np.array([60.0, 66.0]), "step": np.array([3.0, 2.0])}


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    return build_bodies(FEW_PROTEINS.proteins, FEW_PROTEINS.seed, CPU)


def smooth_field(seed: int) -> torch.Tensor:
    """(1, z, y, x) that fades towards its ends along z."""
    white = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    spectrum = torch.fft.rfftn(white, dim=(1, 2, 3))
    squares = sum(torch.fft.fftfreq(size).square().reshape([-1 if a == axis else 1 for a in range(3)])
                  for axis, size in enumerate((*SHAPE[:2], 0)) if size)
    squares = squares + torch.fft.rfftfreq(SHAPE[2]).square()
    field = torch.fft.irfftn(spectrum * torch.exp(-60 * squares), s=SHAPE, dim=(1, 2, 3))
    return field * torch.hann_window(SHAPE[0])[:, None, None]


def inside_the_wedge(volume: torch.Tensor, tilt_range: tuple[float, float], margin: float) -> float:
    """Share of the power of `volume` (z, y, x) further than `margin` degrees from the tilts."""
    ends = (tilt_range[0] - margin, tilt_range[1] + margin)
    pair = torch.from_numpy(np.stack([ramp[...] for ramp in ramps(ends, volume.shape)]))
    power = half_transform(volume, 3).abs().square()
    return float((power * (1 - measured(ends_of(pair[None]), volume.shape)[0, 0])).sum() / power.sum())


def test_tilted_and_back_as_the_simulator_does() -> None:
    field = smooth_field(0)
    angles = tuple(float(angle) for angle in range(-60, 61, 3))
    simulator = Tilts(angles, SHAPE[0], SHAPE[2])
    wanted = simulator.back_project(simulator.project(field[0]))
    series = series_of({name: ends[:1] for name, ends in ODD_TILTS.items()}, SHAPE, CPU)
    found = series.back_project(series.project(field), torch.ones(1))[0]
    middle = (slice(8, -8), slice(None), slice(8, -8))
    assert correlation(found[middle], wanted[middle]) > 0.98
    assert float(found[middle].std() / wanted[middle].std()) == pytest.approx(1, abs=0.1)


def test_noise_lies_where_tilts_measured_and_is_stronger_at_high_frequencies() -> None:
    series = series_of(ODD_TILTS, SHAPE, CPU)
    white = series.white(torch.ones_like(series.angles), torch.Generator().manual_seed(1))
    volumes = series.back_project(white, torch.ones(2))
    for volume, ends in zip(volumes, ((-60.0, 60.0), (-40.0, 66.0)), strict=True):
        assert inside_the_wedge(volume, ends, 5.0) < 0.03
        along = torch.fft.rfft(volume, dim=2).abs().square().mean((0, 1))
        assert float(along[12:18].mean()) > 2 * float(along[3:6].mean())


def test_tilts_stay_in_their_ranges() -> None:
    tilts = draw_tilts(2000, np.random.default_rng(0))
    assert LAST_TILT[0] <= tilts["last"].min() < tilts["last"].max() <= LAST_TILT[1]
    assert LAST_TILT[0] <= -tilts["first"].max() < -tilts["first"].min() <= LAST_TILT[1]
    assert 0.3 < (tilts["first"] != -tilts["last"]).mean() < 0.5
    assert ((tilts["last"] - tilts["first"]) / tilts["step"]).max() <= MOST_TILTS


def test_what_is_drawn_stays_in_its_ranges() -> None:
    facts = draw_facts(1000, np.random.default_rng(0))
    for name, (low, high) in {"pixel": PIXEL, "snr": SIGNAL_TO_NOISE}.items():
        assert low <= facts[name].min() < facts[name].max() <= high
    assert facts["dose"].max() <= DOSE[1]
    assert 0.1 < (facts["dose"] == 0).mean() < 0.3


def test_bodies_keep_their_potential_and_repeat_along_y_and_x(bodies: Bodies) -> None:
    body = int(bodies.of_kind("protein")[0])
    turns, none = np.broadcast_to(np.eye(3), (2, 3, 3)), np.zeros((2, MEMBRANES, 17))
    places = np.array([[16.0, 20.0, 24.0], [16.0, 0.0, 0.0]])
    contents = Contents(np.arange(2), np.array([body, body]), places, turns, none, np.array([[0.0, 32.0]] * 2))
    fields = potential(bodies, contents, np.array([10.0, 10.0]), SHAPE)
    residues = float(bodies.weights[bodies.first[body] : bodies.first[body] + bodies.count[body]].sum())
    whole = residues * EXCESS_POTENTIAL * RESIDUE_VOLUME / 1000
    assert fields.sum((1, 2, 3)).tolist() == pytest.approx([whole, whole], rel=0.01)
    moved = fields[1].roll((20, 24), (1, 2))
    assert correlation(fields[0], moved) > 0.999


def test_a_membrane_is_where_its_ellipsoid_is(bodies: Bodies) -> None:
    none = np.zeros(0, np.int64)
    membranes = np.zeros((1, MEMBRANES, 17))
    membranes[0, 0] = np.concatenate([[160, 200, 240], [100, 100, 100], np.eye(3).ravel(), [0, 1]])
    contents = Contents(none, none, np.zeros((0, 3)), np.zeros((0, 3, 3)), membranes, np.array([[0.0, 32.0]]))
    field = potential(bodies, contents, np.array([10.0]), SHAPE)[0]
    assert int(field[16, 20, 24:].argmax()) == pytest.approx(10, abs=2)
    assert abs(float(field[16, 20, 24])) < 0.01 * float(field.max())


def test_noise_is_as_strong_as_its_ratio_says_and_new_in_each_exposure(bodies: Bodies) -> None:
    rng = np.random.default_rng(5)
    facts = draw_facts(4, rng)
    scene = potential(bodies, draw_contents(bodies, facts["pixel"], SHAPE, rng), facts["pixel"], SHAPE)
    truth, noise = reconstructed(scene, facts, torch.Generator().manual_seed(0))
    _, other = reconstructed(scene, facts, torch.Generator().manual_seed(1))
    for sample in range(4):
        assert abs(correlation(noise[sample], other[sample])) < 0.05
        if not truth[sample].any():
            continue
        assert float(truth[sample].var() / noise[sample].var()) == pytest.approx(facts["snr"][sample], rel=1e-3)
        assert inside_the_wedge(truth[sample], (facts["first"][sample], facts["last"][sample]), 12.0) < 0.1


def test_the_same_key_draws_the_same_windows_and_another_key_others() -> None:
    noisy, truth, facts = FEW_PROTEINS.draw(3, (16, 20, 24), (1, 2), CPU)
    again, other = FEW_PROTEINS.draw(3, (16, 20, 24), (1, 2), CPU), FEW_PROTEINS.draw(3, (16, 20, 24), (1, 3), CPU)
    assert noisy.shape == truth.shape == (3, 1, 16, 20, 24)
    assert torch.isfinite(noisy).all()
    assert torch.equal(noisy, again[0])
    assert torch.equal(truth, again[1])
    assert np.array_equal(facts["pixel"], again[2]["pixel"])
    assert not torch.equal(noisy, other[0])
    assert 0.5 < float(noisy.std()) < 1.6
    assert math.isfinite(float(truth.std()))


@pytest.mark.parametrize("window", [(8, 16, 16), (32,), (32, 32)])
def test_a_window_that_cannot_be_drawn_is_refused(window: tuple[int, ...]) -> None:
    with pytest.raises(RecipeFault, match="expected three sizes of 16 voxels"):
        FEW_PROTEINS.draw(2, window, (0,), CPU)


@dataclass(frozen=True)
class OfFewProteins(Tomograms):
    """The world, opened sooner."""

    proteins: int = 6


def test_a_network_learns_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORLDS, "tomograms", OfFewProteins)
    recipe = from_table({
        "data": {"world": "tomograms", "window": [16, 16, 16]}, "scheme": {"name": "supervised", "directed": True},
        "net": {"name": "unet", "size": 4, "depth": 1, "bias": False},
        "training": {"steps": 24, "batch": 4, "validate_every": 8, "validation_batches": 2, "lr": 5e-3,
                     "turns": False}})
    found = [step.validation for step in run(recipe, [], None, device="cpu") if step.validation is not None]
    assert found[-1] < found[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_a_gpu_is_fed_and_never_waited_for() -> None:
    device = torch.device("cuda", 0)
    Tomograms().draw(8, (64, 64, 64), (0, 0), device)
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):  # it says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = [Tomograms().draw(8, (64, 64, 64), (0, key), device)[0] for key in range(1, 11)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize(device)
    assert 80 / (time.perf_counter() - begun) > 300  # windows a second
    assert all(torch.isfinite(noisy).all() for noisy in drawn)
