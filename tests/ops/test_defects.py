import numpy as np
import pytest

from deice.ops.defects import draw_sources, find_defects


def sums(rate: float, frames: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the even and the odd frames of a clean Poisson movie."""
    generator, counts = np.random.default_rng(seed), ((frames + 1) // 2, frames // 2)
    even, odd = (generator.poisson(rate * n, (size, size)).astype(np.float32) for n in counts)
    return even, odd


@pytest.mark.parametrize(("rate", "frames"), [(0.02, 40), (0.5, 5), (0.5, 40), (8.0, 40), (30.0, 3)])
def test_a_clean_movie_keeps_its_pixels(rate, frames):
    even, odd = sums(rate, frames, 1024)
    defects = find_defects(even, odd, ((frames + 1) // 2, frames // 2), None)
    assert defects.mean() < 2e-5


@pytest.mark.parametrize("rate", [0.5, 2.0, 20.0])
def test_hot_and_dead_pixels_are_found(rate):
    even, odd = sums(rate, 40, 512)
    places = np.random.default_rng(1).choice(512 * 512, 400, replace=False)
    for half in (even, odd):
        half.flat[places[:200]] = 0
        half.flat[places[200:]] = half.flat[places[200:]] * 5 + 20
    defects = find_defects(even, odd, (20, 20), None)
    assert defects.flat[places[:200]].mean() > 0.97
    assert defects.flat[places[200:]].mean() > 0.97
    assert defects.sum() < 410


def test_dead_columns_and_parts_of_hot_rows_are_found_whole():
    even, odd = sums(0.5, 40, 512)
    for half in (even, odd):
        half[:, 100] = 0
        half[300, 128:320] *= 4
    defects = find_defects(even, odd, (20, 20), None)
    assert defects[:, 100].all()
    assert defects[300, 128:320].all()
    assert defects.sum() < 512 + 192 + 20


def test_an_offset_and_small_noise_do_not_matter():
    generator = np.random.default_rng(0)
    even, odd = (generator.normal(6802, 8.9, (256, 256)).astype(np.float32) * 20 for _ in range(2))
    even[50, 60] += 20 * 150
    defects = find_defects(even, odd, (20, 20), None)
    assert defects[50, 60]
    assert defects.sum() <= 2


def test_gold_and_straight_edges_are_no_defects():
    y, x = np.mgrid[-1:513, -1:513]
    rate = np.where(x < 250, 1.0, 0.4)  # the edge of a support film, along the columns
    for number, radius in enumerate((4, 6, 10, 20)):
        rate = np.where(np.hypot(y - 100 - 80 * number, x - 120) < radius, 0.3, rate)
    for axis in (0, 1):  # no detector draws an edge sharper than this
        rate = (np.roll(rate, 1, axis) + 2 * rate + np.roll(rate, -1, axis)) / 4
    rate = rate[1:-1, 1:-1]
    generator = np.random.default_rng(0)
    even, odd = (generator.poisson(200 * rate).astype(np.float32) for _ in range(2))
    assert find_defects(even, odd, (20, 20), None).sum() <= 3


def test_what_is_not_finite_or_known_is_a_defect():
    even, odd = sums(1.0, 10, 64)
    even[3, 4], odd[5, 6] = np.nan, np.inf
    known = np.zeros((64, 64), bool)
    known[10:20, 30:40] = True
    defects = find_defects(even, odd, (5, 5), known)
    assert defects[3, 4]
    assert defects[5, 6]
    assert defects[10:20, 30:40].all()
    assert defects.sum() < 106


def test_draws_come_from_good_pixels_nearby_and_fill_the_middle_of_a_dead_block():
    defects = np.zeros((64, 64), bool)
    defects[20:41, 20:41] = defects[0, 0] = defects[63, 10] = True
    sources = draw_sources(defects, np.flatnonzero(defects), np.random.default_rng(0))
    assert not defects.flat[sources].any()
    (y, x), (y0, x0) = np.unravel_index(sources, defects.shape), np.nonzero(defects)
    far = np.maximum(abs(y - y0), abs(x - x0))
    assert far[0] <= 2
    assert far[-1] <= 2
    assert far.max() <= 32


def test_draws_spread_over_the_whole_neighbourhood():
    defects = np.zeros((9, 9), bool)
    defects[4, 4] = True
    generator = np.random.default_rng(0)
    draws = [draw_sources(defects, np.flatnonzero(defects), generator)[0] for _ in range(4800)]
    drawn = np.bincount(draws, minlength=81).reshape(9, 9)
    assert drawn[4, 4] == 0
    around = np.delete(drawn[2:7, 2:7].ravel(), 12)
    assert around.min() > 140
    assert around.sum() > 4780
