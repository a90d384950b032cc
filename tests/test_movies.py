import os
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import deice
from deice.errors import BatchFailure, FileFault, RecipeFault, UserError
from deice.image import Geometry, Image
from deice.movies import Splitting, split_files
from deice.movies.halves import split_movie


def poisson_movie(rate: float = 2.0, shape: tuple[int, int, int] = (7, 96, 80), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(rate, shape).astype(np.uint8)


def write_movie(path: Path, movie: np.ndarray, pixel_size: float = 1.2) -> Path:
    deice.write(path, movie.astype(np.float32), Geometry().with_pixel_size(pixel_size), axes="tyx")
    return path


def test_even_and_odd_are_averages_of_frames_counted_from_0():
    movie = poisson_movie()
    halves = deice.split(movie)
    np.testing.assert_allclose(halves.views[0], movie[0::2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(halves.views[1], movie[1::2].mean(axis=0), rtol=1e-6)


def test_the_full_average_counts_every_frame_once():
    movie = poisson_movie()
    halves = split_movie(Image(movie), None, False, 0, "movie")
    np.testing.assert_allclose(halves.full, movie.mean(axis=0), rtol=1e-5)
    assert halves.counts == (4, 3)


def test_a_list_of_movies_gives_a_list_of_images_and_one_movie_one_image():
    movie = poisson_movie()
    assert isinstance(deice.split(movie), Image)
    assert isinstance(deice.split(Image(movie)), Image)
    assert len(deice.split([movie, movie])) == 2
    assert deice.split(movie, pixel_size=1.7).pixel_size == 1.7


def test_the_gain_multiplies_turned_and_flipped():
    movie = poisson_movie(20.0, (6, 96, 80))
    gain = np.random.default_rng(1).uniform(0.8, 1.2, (80, 96)).astype(np.float32)
    turned = np.rot90(gain, -1)[::-1]
    raw = (movie / turned).astype(np.float32)
    halves = deice.split(raw, gain=gain, gain_rotation=1, gain_flip=1)
    np.testing.assert_allclose(halves.views[0], movie[0::2].mean(axis=0), rtol=1e-5)
    with pytest.raises(UserError, match="shape"):
        deice.split(raw, gain=gain)


@pytest.mark.parametrize("align", [False, True])
def test_defects_are_replaced_by_pixels_as_noisy_as_their_neighbours(align):
    """Their mean, their variance and the halves' independence are those of good pixels."""
    movie = poisson_movie(2.0, (20, 256, 256))
    places = np.unravel_index(np.random.default_rng(1).choice(65536, 1500, replace=False), (256, 256))
    gain = np.ones((256, 256), np.float32)
    gain[places] = 0
    movie[:, places[0], places[1]] = 200
    halves = split_movie(Image(movie), gain, align, 0, "movie")
    replaced = np.stack([halves.even[places], halves.odd[places]])
    assert halves.replaced == pytest.approx(1500, abs=5)
    assert abs(replaced.mean() - 2.0) < 0.05
    assert abs(replaced.var() / (2.0 / 10) - 1) < 0.15
    assert abs(np.corrcoef(replaced)[0, 1]) < 0.08


def test_the_halves_of_pure_noise_are_independent_also_where_pixels_are_hot():
    movie = poisson_movie(1.0, (16, 256, 256))
    movie[:, ::16, ::16] = 30
    even, odd = deice.split(movie).views
    assert abs(np.corrcoef(even.ravel(), odd.ravel())[0, 1]) < 0.015


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    movie = poisson_movie()
    movie[:, 40, 40] = 90
    first, again, other = (deice.split(movie, seed=seed).views for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).sum() <= 2
    assert (first != other).any()


def test_frames_without_anything_to_align_by_stay_where_they_are(caplog):
    movie = poisson_movie(2.0, (8, 128, 128))
    halves = split_movie(Image(movie), None, True, 0, "noise.mrc")
    assert not halves.shifts.any()
    assert halves.shift_error is None
    assert "noise.mrc" in caplog.text
    np.testing.assert_allclose(halves.even, movie[0::2].mean(axis=0), atol=1e-4)


def test_aligned_halves_are_sharper():
    generator = np.random.default_rng(0)
    squared = np.fft.fftfreq(256)[:, None] ** 2 + np.fft.rfftfreq(256) ** 2
    scene = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(256, 256))) * np.exp(-squared / 0.02), s=(256, 256))
    scene = 4 * np.exp(0.15 * scene / scene.std())
    path = np.arange(12) // 2 - 2.5
    movie = generator.poisson([np.roll(scene, round(2 * step), 0) for step in path]).astype(np.uint8)
    plain, aligned = (split_movie(Image(movie), None, align, 0, "movie") for align in (False, True))
    assert np.abs(aligned.shifts[:, 0] + 2 * path).max() < 0.2

    def agreement(halves):
        return np.corrcoef(halves.even[20:-20, 20:-20].ravel(), halves.odd[20:-20, 20:-20].ravel())[0, 1]

    assert agreement(aligned) > agreement(plain) + 0.05


# the fixed pattern


def patterned_set(count: int, sd: float, counts: float = 200.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """A camera's gain and `count` movies of different scenes seen through it."""
    generator = np.random.default_rng(5)
    camera = 1 + sd * generator.normal(size=(128, 128))
    movies = []
    for _ in range(count):
        squared = np.fft.fftfreq(128)[:, None] ** 2 + np.fft.rfftfreq(128) ** 2
        scene = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(128, 128))) * np.exp(-squared / 0.002), s=(128, 128))
        rate = counts / 4 * (1 + 0.1 * scene / scene.std()) * camera
        movies.append(generator.poisson(rate, (4, 128, 128)).astype(np.uint16))
    return camera, movies


def fine(picture: np.ndarray) -> np.ndarray:
    """Differences of diagonal neighbours: the highest frequencies."""
    return (picture[1:, 1:] - picture[:-1, 1:] - picture[1:, :-1] + picture[:-1, :-1]).ravel()


def shared(images: list[Image]) -> float:
    """Mean correlation of the highest frequencies between the averages of different movies."""
    matrix = np.corrcoef([fine(np.mean(image.views, axis=0)) for image in images])
    return float(matrix[np.triu_indices(len(images), 1)].mean())


def test_the_camera_s_pattern_is_found_and_divided_out():
    _, movies = patterned_set(30, 0.02)
    before, after = deice.split(movies), deice.split(movies, estimate_gain=True)
    assert shared(before) > 0.05
    assert abs(shared(after)) < 0.025


def test_the_estimated_gain_is_the_camera_s(tmp_path):
    camera, movies = patterned_set(30, 0.02)
    paths = [write_movie(tmp_path / f"m{number}.mrc", movie) for number, movie in enumerate(movies)]
    list(split_files(paths, tmp_path / "out", Splitting(estimate_gain=True)))
    with mrcfile.open(tmp_path / "out" / "gain_estimated.mrc") as file:
        estimate = 1 / file.data
    assert np.corrcoef(estimate.ravel(), camera.ravel())[0, 1] > 0.75
    assert np.std(estimate / camera) < 0.015


def test_a_gain_that_cannot_be_known_is_refused():
    with pytest.raises(UserError, match="error"):
        deice.split(patterned_set(4, 0.002)[1], estimate_gain=True)
    with pytest.raises(UserError, match="several"):
        deice.split(patterned_set(1, 0.02)[1], estimate_gain=True)


# files


def test_files_are_written_under_the_halves_names_with_the_movie_s_pixel_size(tmp_path):
    movie = poisson_movie()
    path = write_movie(tmp_path / "grid_7.mrc", movie)
    image = deice.split(path, tmp_path / "out")
    for name, frames in (("_EVN", movie[0::2]), ("_ODD", movie[1::2]), ("", movie)):
        with mrcfile.open(tmp_path / "out" / f"grid_7{name}.mrc") as file:
            np.testing.assert_allclose(file.data, frames.mean(axis=0), rtol=1e-5)
            assert float(file.voxel_size.x) == pytest.approx(1.2)
            assert file.data.dtype == np.float32
    assert image.views.shape == (2, 96, 80)
    np.testing.assert_allclose(image.views[1], movie[1::2].mean(axis=0), rtol=1e-5)
    assert image.pixel_size == pytest.approx(1.2)


def test_float16_and_a_pixel_size_of_the_user_s(tmp_path):
    path = write_movie(tmp_path / "m.mrc", poisson_movie())
    deice.split(path, tmp_path / "out", float16=True, pixel_size=0.83)
    with mrcfile.open(tmp_path / "out" / "m_ODD.mrc") as file:
        assert file.data.dtype == np.float16
        assert float(file.voxel_size.x) == pytest.approx(0.83)


def test_finished_outputs_are_skipped_and_a_missing_one_is_made_again(tmp_path):
    paths = [write_movie(tmp_path / f"m{n}.mrc", poisson_movie(seed=n)) for n in range(2)]
    out = tmp_path / "out"
    list(split_files(paths, out, Splitting()))
    (out / "m1_ODD.mrc").unlink()
    before = (out / "m0_EVN.mrc").stat().st_mtime_ns
    assert [outcome.skipped for outcome in split_files(paths, out, Splitting())] == [True, False]
    assert (out / "m0_EVN.mrc").stat().st_mtime_ns == before
    assert not any(outcome.skipped for outcome in split_files(paths, out, Splitting(overwrite=True)))


def test_a_truncated_output_is_made_again(tmp_path):
    path = write_movie(tmp_path / "m.mrc", poisson_movie())
    deice.split(path, tmp_path / "out")
    odd = tmp_path / "out" / "m_ODD.mrc"
    whole = odd.read_bytes()
    odd.write_bytes(whole[:2000])
    deice.split(path, tmp_path / "out")
    assert len(odd.read_bytes()) == len(whole)


def test_a_faulty_movie_is_named_and_the_others_are_done(tmp_path):
    good = [write_movie(tmp_path / f"m{n}.mrc", poisson_movie(seed=n)) for n in range(2)]
    bad = tmp_path / "bad.mrc"
    bad.write_bytes(good[0].read_bytes()[:5000])
    with pytest.raises(BatchFailure) as caught:
        deice.split([*good, bad], tmp_path / "out")
    assert [name for name, _ in caught.value.failures] == [str(bad)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        f"m{n}{half}.mrc" for n in range(2) for half in ("", "_EVN", "_ODD")
    )


def test_bad_input_gets_one_clear_line(tmp_path):
    micrograph = tmp_path / "micrograph.mrc"
    deice.write(micrograph, np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
    with pytest.raises(UserError, match="at least 2 frames"):
        deice.split(micrograph, tmp_path / "out")
    with pytest.raises(UserError, match="at least 2 frames"):
        deice.split(poisson_movie()[:1])
    with pytest.raises(UserError, match="every pixel"):
        deice.split(np.full((4, 32, 32), 3, np.uint8))
    with pytest.raises(UserError, match="defects"):
        deice.split(np.full((4, 32, 32), np.nan, np.float32))
    with pytest.raises(UserError, match=r"\(t, y, x\)"):
        deice.split(np.zeros((32, 32)))
    with pytest.raises(RecipeFault, match="float16"):
        deice.split(poisson_movie(), flaot16=True)
    with pytest.raises(FileFault, match="no such gain"):
        deice.split(micrograph, tmp_path / "out", gain=tmp_path / "none.mrc")
    assert not list((tmp_path / "out").iterdir())


def test_outputs_that_collide_or_overwrite_an_input_are_refused_before_any_work(tmp_path):
    movie = poisson_movie()
    (tmp_path / "a").mkdir()
    one, two = write_movie(tmp_path / "m.mrc", movie), write_movie(tmp_path / "a" / "m.mrc", movie)
    half = write_movie(tmp_path / "m_EVN.mrc", movie)
    with pytest.raises(UserError, match="both would write"):
        deice.split([one, two], tmp_path / "out")
    with pytest.raises(UserError, match="both would write"):
        deice.split([one, half], tmp_path / "out")
    with pytest.raises(UserError, match="overwrite the input"):
        deice.split(one, tmp_path)
    assert not (tmp_path / "out").exists()
    with mrcfile.open(one) as file:
        np.testing.assert_array_equal(file.data, movie)


def test_an_unwritable_folder_is_refused(tmp_path):
    path = write_movie(tmp_path / "m.mrc", poisson_movie())
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFault):
        deice.split(path, tmp_path / "file" / "out")


# memory

MEASURED = """
import sys, threading, time
from deice.movies import Splitting, split_files
from pathlib import Path

def anonymous():
    return sum(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(("RssAnon", "RssShmem")))

peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.01):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
how = Splitting(gain=Path(sys.argv[3]), align=sys.argv[4] == "1")
outcomes = list(split_files([Path(sys.argv[1])], sys.argv[2], how))
done.set()
watcher.join()
assert outcomes[0].failure is None, outcomes[0].failure
print(peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is sampled from /proc")
def test_forty_frames_of_4096_stay_below_one_gigabyte(tmp_path, align):
    frame = np.random.default_rng(0).poisson(1.0, (4096, 4096)).astype(np.int8)
    with mrcfile.new_mmap(tmp_path / "movie.mrc", (40, 4096, 4096), mrc_mode=0) as file:
        for number in range(40):
            file.data[number] = np.roll(frame, 997 * number, axis=0) if not align else frame
    deice.write(tmp_path / "gain.mrc", np.ones((4096, 4096), np.float32))
    arguments = [str(tmp_path / "movie.mrc"), str(tmp_path / "out"), str(tmp_path / "gain.mrc"), str(int(align))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 1_000_000
