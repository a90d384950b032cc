"""Tilt angles as the programs of the field write them, found where they write them."""

import pytest

from deice.errors import FileFault, RecipeFault
from deice.io.tilts import checked_tilt_range, parse_tilt_range, read_tilts, tilt_range_beside

MDOC = """PixelSpacing = 2.7
ImageFile = TS_01.mrc

[T = SerialEM: acquired by somebody]
[ZValue = 0]
TiltAngle = 0.0012
StagePosition = 1 2
[ZValue = 1]
TiltAngle = -57.5
PriorTiltAngle = 99
[ZValue = 2]
TiltAngle = 48
"""
TEXTS = {
    "TS_01.tlt": " -57.5\n  0.0012\n 48\n\n",
    "TS_01.rawtlt": "-57.5 2 1\n0.0012,1,2\n48 3 3",
    "TS_01.mdoc": MDOC,
    "TS_01.mrc.mdoc": MDOC,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("folder", [".", "tilts", "../tilts"])
def test_the_range_is_found_beside_the_tomogram(tmp_path, name, folder):
    place = tmp_path / "volumes" / folder
    place.mkdir(parents=True, exist_ok=True)
    (tmp_path / "volumes").mkdir(exist_ok=True)
    (place / name).write_text(TEXTS[name])
    tomogram = tmp_path / "volumes" / "TS_01_EVN_Vol.mrc"
    assert sorted(read_tilts(place / name)) == [-57.5, 0.0012, 48]
    assert tilt_range_beside(tomogram, "TS_01") == (-57.5, 48)
    assert tilt_range_beside(tomogram, "TS_02") is None


@pytest.mark.parametrize("name", ["TS_01_rec", "rec_TS_01", "TS_01_10.00Apx", "TS_01_bin4_Vol", "TS_01_full_rec"])
def test_what_programs_add_to_the_name_is_seen_through(tmp_path, name):
    (tmp_path / "TS_01.rawtlt").write_text("-60\n40\n")
    assert tilt_range_beside(tmp_path / f"{name}.mrc", name) == (-60, 40)


def test_refined_angles_go_before_those_of_the_stage(tmp_path):
    (tmp_path / "a.rawtlt").write_text("-60\n60\n")
    (tmp_path / "a.tlt").write_text("-58\n62\n")
    assert tilt_range_beside(tmp_path / "a.mrc", "a") == (-58, 62)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.tlt", "", "no angle"),
        ("a.tlt", "5\n5\n", "from 5 to 5"),
        ("a.tlt", "-60\nsixty\n", "sixty"),
        ("a.tlt", "-60\n123\n", "to 123"),
        ("a.tlt", "-60\nnan\n", "angles from"),
        ("a.mdoc", "[ZValue = 0]\nTilt = 5\n", "no angle"),
    ],
)
def test_a_file_without_angles_is_named(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFault, match=rf"{name}: .*{said}.*expected"):
        read_tilts(tmp_path / name)
    with pytest.raises(FileFault):
        tilt_range_beside(tmp_path / "a.mrc", "a")


def test_a_range_as_typed():
    assert parse_tilt_range("-60,54.5") == (-60, 54.5)
    for text in ("60", "60,-60", "-60,60,3", "-60;60", "-90,90", "", "-60,nan"):
        with pytest.raises(RecipeFault, match=r"expected the first and the last tilt in degrees.*as -60,60"):
            parse_tilt_range(text)
    with pytest.raises(RecipeFault, match=r"\[data\] tilt_range: 1, 2, 3; expected"):
        checked_tilt_range((1, 2, 3), "[data] tilt_range")
