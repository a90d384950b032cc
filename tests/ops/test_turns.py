"""Turns: all of a sample's views alike, only allowed axes, every turn reached."""

import torch

from deice.ops.turns import random_turns, swappable_axes


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_views_of_a_sample_are_turned_alike_and_keep_their_values():
    view = torch.arange(4 * 16.0).reshape(4, 1, 4, 4)
    turned = random_turns(torch.cat([view, view + 100], 1), 2, (-2, -1), generator(0))
    assert torch.equal(turned[:, 0] + 100, turned[:, 1])
    assert torch.equal(turned[:, :1].flatten(1).sort(1).values, view.flatten(1))


def test_all_eight_turns_of_a_square_are_reached():
    square = torch.tensor([[0.0, 1], [2, 3]]).expand(256, 1, 2, 2)
    seen = {tuple(t.flatten().tolist()) for t in random_turns(square, 2, (-2, -1), generator(1))}
    assert len(seen) == 8


def test_a_volume_is_flipped_only_so_that_its_missing_wedge_stays_where_it_is():
    assert swappable_axes((8, 8, 8)) is None
    tilts = torch.deg2rad(torch.tensor([-40.0, 60.0]))  # the outermost, whose Fourier lines bound the wedge
    z, y, x = torch.meshgrid(*[torch.arange(-4.0, 5)] * 3, indexing="ij")
    measured = (z * tilts[0].cos() >= x * tilts[0].sin()) == (z * tilts[1].cos() <= x * tilts[1].sin())
    assert not torch.equal(measured, measured.flip(0))
    volume = torch.stack([measured.float(), x, y, z])[None].expand(256, 4, 9, 9, 9)
    seen = set()
    for turned in random_turns(volume, 3, None, generator(2)):
        # where a coefficient lands, it must have been measured or not as the place says; (0, 0) is on every line
        assert torch.equal(turned[0], volume[0, 0])
        seen.add(tuple(turned[1:, 0, 0, 0].tolist()))
    assert len(seen) == 4


def test_oblong_windows_are_not_swapped():
    assert swappable_axes((8, 16)) is None
    assert swappable_axes((8, 8)) == (-2, -1)
