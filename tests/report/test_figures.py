"""Curves that stay readable, whatever the run."""

from xml.etree import ElementTree

import numpy as np
import pytest

from deice.report import figures

GRID = np.linspace(0.01, 0.5, 50)


def words(svg):
    """The texts of an <svg> that parses."""
    texts = (element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text"))
    return " ".join("".join(text.itertext()) for text in texts)


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 30_000])
def test_any_length_of_run_is_drawn_and_stays_small(count):
    rows = [{"step": 10 * i, "loss": 1 + 5 / (i + 1), "lr": 1e-3, "windows_per_second": 9.0} for i in range(count)]
    rows += [{"step": 5 * i, "validation": 1 + abs(i - 12) / 100} for i in range(20)] if count else []
    for svg in (figures.loss_curves(rows), figures.rates(rows)):
        assert svg.startswith("<svg")
        assert len(svg) < 120_000
    if count:
        assert "best: 1 at step 60" in words(figures.loss_curves(rows))


def test_the_crossings_are_said_in_angstrom_where_they_can_be():
    falling = {"noisy": [(GRID, 1 - 2 * GRID)] * 2}
    assert "noisy: 0.5 at 6.0 Å, 0.143 at 3.5 Å" in words(figures.shell_correlations(falling, 1.5))
    assert "Å" not in words(figures.shell_correlations(falling, None))


def test_images_of_different_size_are_averaged_on_one_grid():
    finer = np.linspace(0.01, 0.5, 99)
    grid, mean = figures._mean([(GRID, 1 - GRID), (finer, 1 - finer)])
    np.testing.assert_allclose(mean, 1 - grid, atol=1e-12)


def test_spectra_that_fall_to_nothing_leave_the_rest_readable():
    curves = {"noisy": [(GRID, np.ones(50))], "truth": [(GRID, 10.0 ** -np.arange(50))]}
    said = words(figures.power_spectra(curves, 1.5))
    assert "truth" in said
    assert not any(f"−{power}" in said for power in range(10, 50))


def test_no_state_is_left_in_matplotlib():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.rates([])
    assert dict(matplotlib.rcParams) == before
