"""The picker finds what is there, and its score counts as it says."""

import pytest
import torch

from deice.bench.picking import Places, average_precision, pick


def discs(shape, centres, radius, depth=-1.0):
    """Dark balls of `radius` pixels on a flat field."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(size) for size in shape], indexing="ij")).double()
    image = torch.zeros(shape, dtype=torch.float64)
    for centre in centres:
        offset = grid - torch.tensor(centre).reshape(-1, *[1] * len(shape))
        image[offset.square().sum(0) <= radius**2] = depth
    return image


def places(centres, radius):
    return Places(torch.tensor(centres, dtype=torch.float64), torch.full((len(centres),), float(radius)))


FLAT = [(20.0, 30.0), (60.0, 70.0), (95.0, 15.0), (30.0, 100.0)]
DEEP = [(10.0, 12.0, 30.0), (24.0, 30.0, 10.0)]


@pytest.mark.parametrize(("shape", "centres"), [((128, 128), FLAT), ((36, 44, 40), DEEP)])
def test_all_dark_balls_are_found_and_rank_first(shape, centres):
    picked = pick(discs(shape, centres, 6), [6.0])
    assert average_precision(picked, places(centres, 6)) == 1
    first = picked.centres[: len(centres)]
    for centre in centres:
        assert (first - torch.tensor(centre)).norm(dim=1).min() <= 1


def test_bright_balls_are_not_picked():
    bright = discs((128, 128), FLAT, 6, depth=1.0)
    assert average_precision(pick(bright, [6.0]), places(FLAT, 6)) < 0.5


def test_grey_scale_and_offset_move_no_pick():
    image = discs((96, 96), [(30.0, 40.0), (60.0, 60.0)], 5) + 0.1 * torch.randn(96, 96, dtype=torch.float64,
                                                                                generator=torch.Generator().manual_seed(1))
    one, other = pick(image, [5.0]), pick(3 * image + 100, [5.0])
    assert torch.equal(one.centres, other.centres)


def test_the_size_of_each_ball_is_told():
    image = discs((128, 128), [(30.0, 30.0)], 4) + discs((128, 128), [(90.0, 90.0)], 10)
    picked = pick(image, [4.0, 10.0])
    sizes = {tuple(int(x > 60) for x in centre): radius for centre, radius in zip(picked.centres[:2].tolist(),
                                                                                 picked.radii[:2].tolist())}
    assert sizes == {(0, 0): 4.0, (1, 1): 10.0}


def test_no_two_picks_lie_closer_than_a_radius():
    noise = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    picked = pick(noise, [7.0])
    distance = torch.cdist(picked.centres, picked.centres) + 1e3 * torch.eye(len(picked.centres))
    assert len(picked.centres) > 5
    assert distance.min() >= 7


def test_average_precision_by_hand():
    known = places([(10.0, 10.0), (50.0, 50.0), (80.0, 20.0)], 5)
    picked = places([(11.0, 10.0), (30.0, 30.0), (50.0, 53.0)], 5)  # right, wrong, right; one is never found
    assert average_precision(picked, known) == pytest.approx((1 / 1 + 2 / 3) / 3)


def test_a_particle_is_found_once_and_only_within_its_radius():
    known = places([(10.0, 10.0)], 5)
    assert average_precision(places([(10.0, 15.1)], 5), known) == 0
    assert average_precision(places([(10.0, 14.9), (10.0, 10.0)], 5), known) == 1
    assert average_precision(places([(10.0, 20.0), (10.0, 10.0), (10.0, 11.0)], 5), known) == pytest.approx(1 / 2)


def test_nothing_picked_scores_nothing():
    assert average_precision(Places(torch.zeros(0, 2), torch.zeros(0)), places([(1.0, 1.0)], 3)) == 0
    assert len(pick(torch.zeros(20, 20), [3.0]).centres) == 0
