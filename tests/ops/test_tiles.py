"""Tiles: their shares add up, the identity gives the image back, reflection folds as often as it must."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deice.ops.tiles import add_tile, blocks, core_of, grid, read_tile, reflect, spans, through_tiles


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 40), st.sampled_from([1, 2, 8]), st.integers(0, 16))
@settings(deadline=None)
def test_shares_add_to_one_and_origins_lie_on_the_grid(size, core, halo, stride, blend):
    shares = np.zeros(size)
    for span in spans(size, core, halo, stride, blend):
        assert span.start % stride == 0
        assert span.halo % stride == 0
        assert span.halo >= halo
        inside = span.weight[: max(0, size - span.start)]
        shares[span.start : span.stop] += inside
    assert np.allclose(shares, 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (37, 101), (36, 20, 9), (3, 50, 17)])
@pytest.mark.parametrize(("core", "halo", "stride", "blend"), [(8, 3, 1, 0), (16, 20, 8, 8), (64, 51, 8, 16)])
def test_tiles_of_the_identity_give_the_image_back(shape, core, halo, stride, blend):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    canvas = np.zeros_like(image)
    for tile in grid(shape, [core] * len(shape), halo, stride, blend):
        add_tile(canvas, tile, core_of(read_tile(image, tile), tile))
    assert np.allclose(canvas, image, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (37, 101), (36, 20, 9)])
def test_tiles_of_a_tensor_are_those_of_the_array(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tensor, canvas, plain = torch.from_numpy(image), torch.zeros(shape), np.zeros(shape, np.float32)
    for tile in grid(shape, [16] * len(shape), 20, 8, 8):
        block = read_tile(tensor, tile)
        assert np.array_equal(block.numpy(), read_tile(image, tile))
        add_tile(canvas, tile, 2 * core_of(block, tile))
        add_tile(plain, tile, 2 * core_of(read_tile(image, tile), tile))
    assert np.array_equal(canvas.numpy(), plain)
    assert np.array_equal(tensor.numpy(), image)


@given(st.integers(1, 12), st.integers(0, 60))
def test_reflection_is_what_numpy_pads(size, width):
    axis = np.arange(size)
    assert np.array_equal(reflect(np.arange(-width, size + width), size), np.pad(axis, width, mode="reflect"))


def test_a_tile_reads_only_what_it_needs():
    class Counting:
        shape = (1000, 1000)
        asked = 0

        def __getitem__(self, cut):
            self.asked += int(np.prod([c.stop - c.start for c in cut]))
            return np.zeros([c.stop - c.start for c in cut], np.float32)

    source = Counting()
    read_tile(source, grid(source.shape, [64, 64], 8, 1)[0])
    assert source.asked <= 80 * 80


@given(st.integers(1, 50), st.integers(1, 30), st.integers(1, 400))
def test_blocks_cover_the_first_axis_once(rows, columns, limit):
    covered = np.concatenate([np.arange(rows)[block] for block in blocks((rows, columns), limit)])
    assert np.array_equal(covered, np.arange(rows))


@pytest.mark.parametrize("shape", [(9, 14, 33), (50, 23)])
def test_a_net_through_tiles_answers_as_to_the_whole(shape):
    """A moving mean that sees two pixels far, on mirrored edges."""
    pictures = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    axes = len(shape)
    mean = {2: torch.nn.functional.avg_pool2d, 3: torch.nn.functional.avg_pool3d}[axes]

    def net(picture):
        return mean(picture, 5, stride=1, padding=2)

    padded = torch.from_numpy(np.pad(pictures.numpy(), [(0, 0), (0, 0)] + [(2, 2)] * axes, mode="reflect"))
    whole = mean(padded, 5, stride=1)
    torch.testing.assert_close(through_tiles(net, pictures, core=8, halo=2, stride=4), whole)
