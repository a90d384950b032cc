"""Tables and `deice.measure`: the rows every table carries, pairing by order and by name, bad input."""

import csv
import io
import json
import logging

import numpy as np
import pytest
import torch

import deice
from deice import metrics
from deice.errors import FileFault, PairFault, RecipeFault, UserError
from deice.filters import Gaussian
from deice.image import Geometry, Image
from deice.judgement import as_csv, compare, markdown

BASELINES = ["noisy", "pointwise", "gaussian", "wiener"]


def scene(seed, shape=(48, 40), noise_sd=3.0):
    """A truth and two noisy halves of it, float64 tensors."""
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    truth = Gaussian(2.0).apply(draw())
    truth = 20 + truth / truth.std()
    return truth, (truth + noise_sd * draw(), truth + noise_sd * draw())


SCENES = [scene(seed) for seed in range(3)]
TRUTHS = [truth for truth, _ in SCENES]
HALVES = [halves for _, halves in SCENES]
NOISY = [(even + odd) / 2 for even, odd in HALVES]
DENOISED = [Gaussian(1.5).apply(image) for image in NOISY]
DENOISED_HALVES = [tuple(Gaussian(1.5).apply(half) for half in halves) for halves in HALVES]


def test_every_table_carries_its_baselines_in_order_of_power():
    table = compare(TRUTHS, NOISY, {"mine": DENOISED}, pixel_size=2.0)["methods"]
    assert list(table) == [*BASELINES, "mine"]
    assert table["noisy"]["psnr"] == pytest.approx(table["pointwise"]["psnr"])
    assert table["pointwise"]["rmse"] < table["noisy"]["rmse"]
    assert table["pointwise"]["psnr"] < table["mine"]["psnr"] <= table["gaussian"]["psnr"] <= table["wiener"]["psnr"]
    assert 0.5 <= table["gaussian"]["sigma_pixels"] <= 20


def test_figures_are_means_with_standard_errors():
    row = compare(TRUTHS, NOISY, {"mine": DENOISED})["methods"]["mine"]
    each = [metrics.psnr(image, truth) for image, truth in zip(DENOISED, TRUTHS)]
    assert row["psnr"] == pytest.approx(np.mean(each))
    assert row["se"]["psnr"] == pytest.approx(np.std(each, ddof=1) / 3**0.5)
    aligned = [metrics.ssim(metrics.align(image, truth), truth) for image, truth in zip(DENOISED, TRUTHS)]
    assert row["ssim"] == pytest.approx(np.mean(aligned))
    assert row["n"] == 3


def test_one_image_has_no_standard_error():
    row = compare(TRUTHS[:1], NOISY[:1], {})["methods"]["noisy"]
    assert row["n"] == 1
    assert set(row["se"].values()) == {None}


def test_crossings_are_those_of_the_mean_curve():
    table = compare(TRUTHS, NOISY, {"mine": DENOISED}, pixel_size=2.0)["methods"]
    curves = [metrics.fourier_shell_correlation(image, truth) for image, truth in zip(DENOISED, TRUTHS)]
    mean = torch.stack([curve for _, curve, _ in curves]).mean(0)
    assert table["mine"]["frc_0.5"] == pytest.approx(metrics.crossing(curves[0][0], mean, 0.5, 2.0))
    assert table["mine"]["frc"] == pytest.approx(float(mean.mean()))
    assert compare(TRUTHS, NOISY, {})["methods"]["noisy"]["frc_0.5"] is None  # no pixel size, no Å


def test_images_are_taken_one_at_a_time():
    alive = []

    def stream(images, name):
        for number, image in enumerate(images):
            alive.append((number, name))
            yield image

    table = compare(stream(TRUTHS, "truth"), stream(NOISY, "noisy"), {"mine": stream(DENOISED, "mine")})
    assert [number for number, _ in alive] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table == compare(TRUTHS, NOISY, {"mine": DENOISED})


def test_images_of_different_size_share_a_table():
    truth, halves = scene(9, (64, 70))
    table = compare([*TRUTHS, truth], [*NOISY, halves[0]], {}, pixel_size=2.0)["methods"]
    assert table["noisy"]["n"] == 4
    assert table["noisy"]["frc_0.143"] > 4


def test_lists_of_unequal_length_and_empty_ones_are_refused():
    with pytest.raises(PairFault, match="differ in number"):
        compare(TRUTHS, NOISY[:2], {"mine": DENOISED})
    with pytest.raises(PairFault, match="no images"):
        compare([], [], {})


def test_volumes_take_the_same_road():
    truth, (even, odd) = scene(5, (20, 24, 18))
    found = deice.measure((even + odd) / 2, truth, halves=(even, odd), pixel_size=10.0)
    assert list(found["methods"]) == [*BASELINES, "measured"]
    assert found["images"][0]["shape"] == [20, 24, 18]
    thin = deice.measure(even[:6], truth[:6], noisy=odd[:6])
    assert thin["methods"]["measured"]["ssim"] is None  # thinner than SSIM's window
    assert "–" in markdown(thin)


def test_measure_tells_everything_of_arrays():
    found = deice.measure(DENOISED, TRUTHS, halves=HALVES, denoised_halves=DENOISED_HALVES, pixel_size=2.0)
    assert found["n"] == 3
    expected = compare(TRUTHS, NOISY, {"measured": DENOISED}, pixel_size=2.0)["methods"]
    assert found["methods"] == expected
    halves = found["halves"]
    assert halves["even_odd_before"] == pytest.approx(np.mean([metrics.correlation(*pair) for pair in HALVES]))
    assert halves["even_odd_after"] > halves["even_odd_before"] + 0.2
    assert abs(halves["removed_noise_correlation"]) < 0.1
    assert len(found["images"]) == 3
    entry = found["images"][0]
    assert entry["truth"]["psnr"] == pytest.approx(metrics.psnr(DENOISED[0], TRUTHS[0]))
    shells = len(entry["curves"]["frequency"])
    assert {len(curve) for curve in entry["curves"].values()} == {shells}
    assert {"power", "power_truth", "power_noisy", "frc", "frc_noisy", "frc_before", "frc_after",
            "removed_noise"} <= set(entry["curves"])  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_a_denoiser_that_eats_signal_is_caught_between_the_halves():
    eaten = [tuple(0.2 * half for half in halves) for halves in HALVES]
    honest = deice.measure(DENOISED, halves=HALVES, denoised_halves=DENOISED_HALVES)["halves"]
    greedy = deice.measure(DENOISED, halves=HALVES, denoised_halves=eaten)["halves"]
    assert greedy["removed_noise_correlation"] > honest["removed_noise_correlation"] + 0.05


def test_an_exact_copy_stays_within_json():
    found = deice.measure(TRUTHS[0], TRUTHS[0], noisy=NOISY[0])
    json.dumps(found, allow_nan=False)
    assert found["methods"]["measured"]["cc"] == pytest.approx(1)


def test_arrays_tensors_and_images_measure_the_same():
    as_array = deice.measure(DENOISED[0].numpy(), TRUTHS[0].numpy(), noisy=NOISY[0].numpy())
    as_tensor = deice.measure(DENOISED[0], TRUTHS[0], noisy=NOISY[0])
    assert as_array == as_tensor
    geometry = Geometry(voxel_size=(2.0, 2.0, 2.0))
    image = Image(DENOISED[0].numpy()[None], geometry)
    as_image = deice.measure(image, TRUTHS[0], noisy=NOISY[0])
    assert as_image["images"][0]["pixel_size"] == 2.0
    assert as_image["methods"]["measured"]["psnr"] == as_array["methods"]["measured"]["psnr"]
    assert as_image["methods"]["measured"]["frc_0.5"] > 4
    assert as_array["methods"]["measured"]["frc_0.5"] is None


def test_without_a_noisy_input_the_table_says_what_it_lacks(caplog):
    with caplog.at_level(logging.WARNING):
        found = deice.measure(DENOISED[0], TRUTHS[0])
    assert list(found["methods"]) == ["measured"]
    assert "--noisy" in caplog.text


@pytest.fixture
def folders(tmp_path):
    """denoised/, truth/, halves/ and denoised_halves/ as the demo writes them."""
    geometry = Geometry(voxel_size=(2.0, 2.0, 2.0))

    def save(folder, name, image):
        (tmp_path / folder).mkdir(exist_ok=True)
        deice.write(tmp_path / folder / name, image.numpy().astype(np.float32), geometry)

    for number, (truth, halves) in enumerate(SCENES):
        save("truth", f"mic{number}.mrc", truth)
        save("denoised", f"mic{number}.mrc", DENOISED[number])
        for half, denoised, word in zip(halves, DENOISED_HALVES[number], ("EVN", "ODD")):
            save("halves", f"mic{number}_{word}.mrc", half)
            save("denoised_halves", f"mic{number}_{word}.mrc", denoised)
        save("halves", f"mic{number}.mrc", NOISY[number])  # the full average beside them, as deice split leaves it
    return tmp_path


def test_folders_are_matched_by_name(folders):
    found = deice.measure(folders / "denoised", folders / "truth", folders / "halves", folders / "denoised_halves")
    assert [entry["name"] for entry in found["images"]] == ["mic0", "mic1", "mic2"]
    assert found["images"][0]["pixel_size"] == 2.0
    expected = deice.measure(DENOISED, TRUTHS, HALVES, DENOISED_HALVES, pixel_size=2.0)
    assert found["methods"]["measured"]["psnr"] == pytest.approx(expected["methods"]["measured"]["psnr"], abs=1e-4)
    assert found["halves"]["even_odd_after"] == pytest.approx(expected["halves"]["even_odd_after"], abs=1e-5)


def test_csv_has_a_line_per_image_and_no_curves(folders):
    found = deice.measure(folders / "denoised", folders / "truth", folders / "halves")
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [line["name"] for line in lines] == ["mic0", "mic1", "mic2"]
    assert float(lines[1]["psnr"]) == pytest.approx(found["images"][1]["truth"]["psnr"])
    assert "curves" not in lines[0]


def test_markdown_shows_every_method_and_its_error():
    table = compare(TRUTHS, NOISY, {"mine": DENOISED}, pixel_size=2.0)
    lines = markdown(table).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == [*BASELINES, "mine"]
    assert f"{table['methods']['mine']['psnr']:.2f} ± " in lines[-1]


def test_files_without_partner_are_named(folders):
    (folders / "truth" / "mic1.mrc").unlink()
    with pytest.raises(PairFault, match="mic1"):
        deice.measure(folders / "denoised", folders / "truth")
    for half in (folders / "halves").glob("mic2*"):
        half.unlink()
    with pytest.raises(PairFault, match="no halves of mic2"):
        deice.measure(folders / "denoised", halves=folders / "halves")


def test_a_file_with_holes_is_named_with_their_count(folders):
    holed = DENOISED[0].numpy().astype(np.float32)
    holed[2, 3:5] = np.nan
    deice.write(folders / "denoised" / "mic0.mrc", holed)
    with pytest.raises(FileFault, match=r"mic0\.mrc: 2 of 1920 pixels are not finite"):
        deice.measure(folders / "denoised", folders / "truth")


def call(**changes):
    given = {"images": DENOISED[0], "truth": TRUTHS[0]} | changes
    return deice.measure(**given)


@pytest.mark.parametrize(("changes", "fault", "says"), [
    ({"truth": TRUTHS[0][:-1]}, PairFault, "48×40 and of 47×40"),
    ({"truth": TRUTHS}, PairFault, "1 images and 3 truth"),
    ({"truth": torch.ones(48, 40)}, UserError, "everywhere"),
    ({"images": torch.full((48, 40), torch.inf)}, UserError, "1920 of 1920"),
    ({"images": torch.zeros(5)}, UserError, "1 axes"),
    ({"images": Image(np.zeros((2, 8, 8)))}, UserError, "2 views"),
    ({"denoised_halves": HALVES[0]}, RecipeFault, "--halves"),
    ({"halves": [HALVES[0][:1]]}, PairFault, "1 halves of one image"),
    ({"images": DENOISED, "truth": TRUTHS, "halves": HALVES[:2]}, PairFault, "3 images and 2 pairs"),
    ({"truth": "no/such/folder"}, UserError, "no such"),
    ({"pixel_size": -3.0}, RecipeFault, "above 0"),
])
def test_what_does_not_fit_is_refused(changes, fault, says):
    with pytest.raises(fault, match=says):
        call(**changes)


def test_two_pixel_sizes_in_one_table_are_refused():
    geometries = [Geometry().with_pixel_size(size) for size in (1.5, 2.0, 2.0)]
    images = [Image(image.numpy()[None], geometry) for image, geometry in zip(DENOISED, geometries)]
    with pytest.raises(RecipeFault, match=r"from 1\.5 to 2 Å"):
        deice.measure(images, TRUTHS)
    assert deice.measure(images, TRUTHS, pixel_size=2.0)["n"] == 3


def test_real_pairs_correlate_as_their_description_says(data):
    """EMPIAR-10146: the mean of 49 frames against the frame left out; nothing beyond 0.3 cycles per pixel."""
    rest = next(iter(sorted((data / "pairs").glob("*_rest49.mrc"))))
    with open(data / "pairs" / "pairs.csv") as lines:
        shifts = {row["name"]: (int(row["shift_y"]), int(row["shift_x"])) for row in csv.DictReader(lines)}
    name = rest.name.removesuffix("_rest49.mrc")
    frame = np.array(deice.read(rest.with_name(f"{name}_frame.mrc")), dtype=np.float32)
    halves = (np.array(deice.read(rest)), np.roll(frame, shifts[name], (0, 1)))
    found = deice.measure(rest, halves=halves)["images"][0]
    curve, frequency = np.array(found["curves"]["frc_before"]), np.array(found["curves"]["frequency"])
    assert curve[frequency < 0.02].mean() > 0.25
    assert abs(curve[frequency > 0.3].mean()) < 0.01
