"""Pictures drawn afresh: what is drawn stays in its ranges, noise and truth are what they say."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.ops.fourier import frequency_radius, from_half_transform
from deice.worlds.drawn import Pictures
from deice.worlds.drawn.bodies import Bodies, build_bodies
from deice.worlds.drawn.ground import draw_ground, ground
from deice.worlds.drawn.noise import COLOURS, FEW, colours, counted, draw_noise, moving_ice
from deice.worlds.drawn.optics import AMPLITUDE_CONTRAST, DEFOCUS, DOSE, LENSES, PIXEL, VOLTAGES, draw_optics, gains
from deice.worlds.drawn.pasting import FINEST, Copies, draw_views, paste
from deice.worlds.drawn.pictures import SIGNAL_TO_NOISE, Scene, draw_scene, exposed
from deice.worlds.drawn.settings import as_tensors

CPU = torch.device("cpu")
FEW_PROTEINS = Pictures(proteins=6)


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    return build_bodies(FEW_PROTEINS.proteins, FEW_PROTEINS.seed, CPU)


@pytest.fixture(scope="module")
def scene(bodies) -> Scene:
    return draw_scene(bodies, 24, 96, np.random.default_rng(3), torch.Generator().manual_seed(3))


def test_the_same_key_draws_the_same_windows_and_another_key_others():
    noisy, truth, facts = FEW_PROTEINS.draw(4, (32, 48), (1, 2), CPU)
    again = FEW_PROTEINS.draw(4, (32, 48), (1, 2), CPU)
    other = FEW_PROTEINS.draw(4, (32, 48), (1, 3), CPU)
    assert noisy.shape == truth.shape == (4, 1, 32, 48)
    assert torch.equal(noisy, again[0])
    assert torch.equal(truth, again[1])
    assert np.array_equal(facts["pixel"], again[2]["pixel"])
    assert not torch.equal(noisy, other[0])


def test_windows_are_finite_and_normalised_like_a_picture():
    noisy, truth, _ = FEW_PROTEINS.draw(24, (48, 48), (0, 0), CPU)
    assert torch.isfinite(noisy).all()
    assert torch.isfinite(truth).all()
    assert abs(float(noisy.mean())) < 0.1
    assert 0.7 < float(noisy.std()) < 1.1


@pytest.mark.parametrize("window", [(8, 8), (32,), (32, 32, 32)])
def test_a_window_that_cannot_be_drawn_is_refused(window):
    with pytest.raises(RecipeFault, match="expected two sizes of 16 pixels"):
        FEW_PROTEINS.draw(2, window, (0,), CPU)


def test_what_is_drawn_stays_in_its_ranges_and_fills_them():
    rng = np.random.default_rng(0)
    facts = draw_optics(4000, rng)
    for name, (low, high) in {"pixel": PIXEL, "amplitude": AMPLITUDE_CONTRAST}.items():
        assert facts[name].min() >= low
        assert facts[name].max() <= high
        assert facts[name].max() / facts[name].min() > 0.9 * high / low
    assert set(facts["kv"]) == set(VOLTAGES)
    assert set(facts["lens"]) == set(range(len(LENSES)))
    assert np.abs(facts["defocus"]).min() >= DEFOCUS[0]
    assert np.abs(facts["defocus"]).max() <= DEFOCUS[1]
    assert 0.05 < (facts["phase"] > 0).mean() < 0.2
    assert facts["phase"].max() <= np.pi


def test_dose_and_signal_to_noise_stay_in_their_ranges(scene):
    assert scene.facts["dose"].min() >= DOSE[0]
    assert scene.facts["dose"].max() <= DOSE[1]
    assert scene.facts["snr"].min() >= SIGNAL_TO_NOISE[0]
    assert scene.facts["snr"].max() <= SIGNAL_TO_NOISE[1]
    assert scene.facts["snr"].max() > 20 * scene.facts["snr"].min()


def test_two_exposures_share_the_truth_and_nothing_else(scene):
    """The noise of one knows neither the truth nor the noise of the other."""
    first, truth = exposed(scene, torch.Generator().manual_seed(1))
    second, same = exposed(scene, torch.Generator().manual_seed(2))
    assert torch.equal(truth, same)
    noises = [(picture - truth).flatten(1) for picture in (first, second)]
    for one, other in [(noises[0], noises[1]), (noises[0], truth.flatten(1))]:
        found = _correlation(one, other)
        # columns and coarse noise leave fewer independent values than pixels
        assert abs(float(found.mean())) < 0.01
        assert float(found.abs().max()) < 0.2


def test_the_noisy_window_correlates_with_its_truth_as_their_variances_say():
    """Truth plus independent noise: correlation² = variance of the truth / variance of the noisy picture."""
    noisy, truth, _ = FEW_PROTEINS.draw(32, (96, 96), (5, 5), CPU)
    share = truth.var((1, 2, 3)) / noisy.var((1, 2, 3))
    found = _correlation(noisy.flatten(1), truth.flatten(1))
    seen = share > 1e-3
    assert int(seen.sum()) > 10
    torch.testing.assert_close(found[seen], share[seen].sqrt(), atol=0.06, rtol=0.1)


def _correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    lengths = one.norm(dim=1) * other.norm(dim=1)
    return (one * other).sum(1) / lengths.clamp_min(1e-12)


def test_empty_places_are_drawn_too():
    """A network that never saw pure noise finds particles in it."""
    _, truth, _ = FEW_PROTEINS.draw(48, (32, 32), (8, 1), CPU)
    assert 1 <= int((truth.square().mean((1, 2, 3)) < 1e-4).sum()) < 24


def test_few_electrons_are_counted_and_many_are_not():
    truth = torch.zeros(2, 64, 64)
    electrons = np.array([0.5, 10 * FEW])
    noise = counted(truth, electrons, torch.Generator().manual_seed(0))
    counts = noise[0] * 0.5**0.5 + 0.5
    torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)
    assert 0.9 < float(noise[0].var()) < 1.1
    assert 0.9 < float(noise[1].var()) < 1.1
    assert float((noise[1] - noise[1].round()).abs().max()) > 0.1


def test_brighter_places_are_noisier():
    truth = torch.tensor([-5.0, 5.0]).repeat(1, 64, 32)
    noise = counted(truth, np.array([100.0]), torch.Generator().manual_seed(0))[0]
    assert float(noise[:, 1::2].var() / noise[:, ::2].var()) == pytest.approx(1.5 / 0.5, rel=0.15)


def test_coloured_noise_keeps_its_variance():
    settings = draw_noise(40, np.random.default_rng(1))
    gain = colours(as_tensors(settings, CPU), frequency_radius((32, 32)))
    torch.testing.assert_close(gain.square().mean((1, 2)), torch.ones(40), atol=1e-4, rtol=0)
    assert float((gain - 1)[torch.from_numpy(settings["colour"] == COLOURS.index("white"))].abs().max()) < 1e-5
    assert float((gain - 1)[torch.from_numpy(settings["colour"] == COLOURS.index("coarse"))].abs().amax()) > 0.1


def test_microscopes_make_dense_things_dark_unless_the_picture_is_inverted():
    settings = draw_optics(200, np.random.default_rng(2))
    usual = (settings["phase"] == 0) & (settings["defocus"] > 0) & (settings["dim"] == 0)
    chosen = np.flatnonzero(usual & (settings["lens"] == LENSES.index("microscope")))
    radius = torch.full((1, 1), 1e-3)
    lowest = gains(as_tensors(settings, CPU), radius, torch.zeros(1, 1))[:, 0, 0].numpy()[chosen]
    assert (np.sign(lowest) == -settings["polarity"][chosen]).all()
    assert 0.1 < (settings["polarity"] < 0).mean() < 0.5


def test_a_copy_is_pasted_where_it_belongs_with_the_potential_of_its_body(bodies):
    """The sum of a pasted view times the pixel's area is the body's potential, at any size, angle and place."""
    chosen = np.array([0, 3])
    views = draw_views(bodies, chosen, np.array([4.0, 4.0]), torch.Generator().manual_seed(0))
    assert views.shape[0] == 2
    whole = views[:, : FINEST * FINEST].sum(1) * torch.from_numpy(bodies.side[chosen] / FINEST).float() ** 2
    side = np.array([20.0, 31.5])
    copies = Copies(np.array([0, 1]), np.array([0, 1]), side, np.array([3.0, 20.3]), np.array([40.0, 30.7]),
                    np.array([0.0, 1.1]), np.array([1.0, 2.0]))  # fmt: skip
    fields = paste(views, copies, 2, 64)
    area = torch.from_numpy((bodies.side[chosen] / side) ** 2).float()
    torch.testing.assert_close(fields.sum((1, 2)) * area, whole * torch.tensor([1.0, 2.0]), rtol=0.02, atol=0)
    y = torch.arange(64.0)
    centre = torch.stack([(fields[1].sum(1) * y).sum(), (fields[1].sum(0) * y).sum()]) / fields[1].sum()
    torch.testing.assert_close(centre, torch.tensor([20.3, 30.7]), atol=0.5, rtol=0)
    assert float(fields[0, 60:].abs().sum()) > 0  # the field is periodic


def test_a_body_larger_than_the_field_is_seen_in_part(bodies):
    views = draw_views(bodies, np.array([0]), np.array([4.0]), torch.Generator().manual_seed(0))
    one = np.array([0])
    copies = Copies(one, one, np.array([200.0]), np.array([32.0]), np.array([32.0]), np.array([0.0]), np.array([1.0]))
    field = paste(views, copies, 1, 64)[0]
    assert float(field.abs().amin()) > 0
    assert float(field[0].abs().max()) < 0.2 * float(field[32].abs().max())  # no cut edge


def test_slopes_and_edges_have_the_strength_that_is_drawn():
    settings = {name: np.zeros_like(value) for name, value in draw_ground(2, np.random.default_rng(0)).items()}
    settings |= {"coarsest": np.full(2, 0.01), "rougher": np.ones(2), "hole": np.full(2, 1.0)}
    settings |= {"slope": np.array([0.5, 0.0]), "step": np.array([0.0, 0.8])}
    radius = frequency_radius((64, 64))
    found = ground(as_tensors(settings, CPU), torch.ones(2, 64, 33), radius, torch.Generator().manual_seed(0))
    assert float(found[0].std()) == pytest.approx(0.5, rel=0.02)
    assert float(found[1].amax() - found[1].amin()) == pytest.approx(0.8, rel=0.02)


def test_no_lens_is_like_another(bodies):
    """Transfer functions differ: no frequency is transferred alike by all, so that none can be learnt by heart."""
    scene = draw_scene(bodies, 40, 64, np.random.default_rng(9), torch.Generator().manual_seed(9))
    gain = scene.gain / scene.gain.square().mean((1, 2), keepdim=True).sqrt()
    spread = gain.abs().std(0) / gain.abs().mean(0).clamp_min(1e-6)
    assert float(spread[scene.radius > 0.01].min()) > 0.3


def test_moving_ice_has_the_variance_that_is_drawn():
    radius, gain = frequency_radius((64, 64)), torch.ones(2, 64, 33)
    settings = {"ice": np.array([0.5, 0.0])}
    spectrum = moving_ice(as_tensors(settings, CPU), gain, radius / 2.0, torch.Generator().manual_seed(0))
    ice = from_half_transform(spectrum, (64, 64))
    assert float(ice[0].std()) == pytest.approx(0.5, rel=0.05)
    assert float(ice[1].abs().max()) == 0
