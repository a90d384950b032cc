import numpy as np

from deice.ops.frames import BAND, block_mean, box_mean, corrected, in_bands


def test_frames_come_in_order_multiplied_by_the_gain_and_as_float32():
    raw = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
    gain = np.linspace(0, 2, 12, dtype=np.float32).reshape(3, 4)
    frames = list(corrected(raw, gain))
    assert all(frame.dtype == np.float32 for frame in frames)
    np.testing.assert_allclose(frames, raw * gain, rtol=1e-6)
    np.testing.assert_array_equal(list(corrected(raw, None)), raw)


def test_a_frame_can_be_changed_without_touching_the_movie():
    raw = np.ones((2, 3, 3), np.float32)
    for frame in corrected(raw, None):
        frame[:] = 7
    assert (raw == 1).all()


def test_box_mean_is_the_mean_of_the_window_that_lies_inside():
    image = np.random.default_rng(0).normal(1000, 1, (23, 31)).astype(np.float32)
    smooth = box_mean(image, 3)
    for y, x in [(0, 0), (11, 15), (22, 30), (2, 28)]:
        window = image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].astype(np.float64)
        assert abs(smooth[y, x] - window.mean()) < 1e-3


def test_block_means_leave_the_remainder_out():
    image = np.arange(35, dtype=np.float32).reshape(5, 7)
    expected = [[image[:2, :2].mean(), image[:2, 2:4].mean(), image[:2, 4:6].mean()]]
    np.testing.assert_allclose(block_mean(image, 2)[:1], expected)
    assert block_mean(image, 2).shape == (2, 3)


def test_box_means_of_tall_pictures_have_no_seams_and_values_count_as_within_limits():
    image = np.random.default_rng(0).normal(7000, 9, (700, 900)).astype(np.float32)  # several bands
    padded, ones = np.pad(image.astype(np.float64), 7), np.pad(np.ones(image.shape), 7)
    windows = [np.lib.stride_tricks.sliding_window_view(one, (15, 15)).sum((2, 3)) for one in (padded, ones)]
    np.testing.assert_allclose(box_mean(image, 7), windows[0] / windows[1], rtol=3e-7)
    image[300, 400] = 1e9
    assert box_mean(image, 7, (6900.0, 7100.0)).max() < 7010


def test_bands_cover_every_row_once():
    rows = np.zeros(1001, int)

    def count(band: slice) -> None:
        rows[band] += 1
        assert band.start % 16 == 0

    in_bands(count, (1001, BAND // 40), multiple=16)
    assert (rows == 1).all()
