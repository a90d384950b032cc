"""Bold is earned."""

import pytest

from deice.report.tables import tabulate, truly_best


def method(value, error, key="psnr", **more):
    return {key: value, "n": 4, "se": {key: error}, **more}


@pytest.mark.parametrize(
    ("a", "b", "best"),
    [
        ((20.0, 0.1), (21.0, 0.1), "b"),
        ((20.9, 0.1), (21.0, 0.1), None),  # 0.1 against √2·0.1
        ((20.0, None), (21.0, None), None),  # one image: nothing is known
        ((None, None), (21.0, 0.1), None),
        ((20.0, 0.1), (float("nan"), 0.1), None),
    ],
)
def test_the_best_is_better_by_more_than_the_standard_error(a, b, best):
    assert truly_best({"a": method(*a), "b": method(*b)}, "psnr") == best


def test_lower_is_better_for_errors_and_resolutions():
    for key in ("rmse", "frc_0.5", "frc_0.143"):
        assert truly_best({"a": method(5.0, 0.1, key), "b": method(9.0, 0.1, key)}, key) == "a"


def test_baselines_first_deice_last_and_absent_figures_are_dashes():
    table = tabulate({"deice": method(23, 0.1), "other": method(None, None), "noisy": method(12, 0.1)})
    assert [name for name, _, _ in table.rows] == ["noisy", "other", "deice"]
    assert table.headings == ["PSNR dB", "n"]
    assert [cells[0].text for _, _, cells in table.rows] == ["12.00", "–", "23.00"]
    assert [cells[0].best for _, _, cells in table.rows] == [False, False, True]
