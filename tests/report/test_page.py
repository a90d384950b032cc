"""The page: whole, self-contained, honest about what is missing; and it opens in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from deice.errors import UserError
from deice.report import page, write_page

SENTENCE = "Extract particles from the raw data, never from denoised images"


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text outside style and script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def whole(demo):
    return page(demo)


def test_it_says_that_particles_come_from_the_raw_data(whole):
    assert SENTENCE in Reader(whole).text


def test_it_shows_everything_the_folder_holds(whole):
    text = Reader(whole).text
    for heading in ("Before and after", "In figures", "Correlation with the truth", "between even and odd halves",
                    "Power, shell by shell", "Training", "What was run", "recipe.toml"):
        assert heading in text
    for said in ("micrograph_0", "micrograph_1", "noise2noise", "minutes = 3", "23.45", "deice report", "torch"):
        assert said in text
    assert "Not in this report" in text  # the fixture has no model
    assert "no model.safetensors" in text


def test_it_needs_nothing_from_outside(whole):
    for tag, attributes in Reader(whole).tags:
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name, "data:")
            assert address.startswith(("data:", "#")), (tag, address[:80])
    assert "@import" not in whole
    assert not re.search(r"url\((?!#)", whole)


def test_no_two_elements_share_an_id_that_differ(whole):
    svgs = re.findall(r"<svg.*?</svg>", whole, re.DOTALL)
    assert len(svgs) == 5
    found = {}
    for svg in svgs:
        for identifier, content in re.findall(r'<clipPath id="([^"]+)">(.*?)</clipPath>', svg, re.DOTALL):
            assert found.setdefault(identifier, content) == content
        assert 'id="figure' not in svg


def test_only_the_truly_best_is_bold(whole):
    rows = dict(re.findall(r"<tr[^>]*><td>(\w+)[ *]*</td>(.*?)</tr>", whole, re.DOTALL))
    assert "<strong>23.45</strong>" in rows["deice"]
    assert sum(row.count("<strong>") for row in rows.values()) == 1  # ssim .625 ± .01 is not better than .62 ± .01


def test_the_page_of_a_large_image_stays_small(tmp_path, make_scene):
    make_scene(tmp_path, "large", (1024, 1024), 0)
    assert write_page(tmp_path, tmp_path / "report.html").stat().st_size < 1.25e6  # four stay below 5 MB


def test_volumes_show_three_planes(tmp_path, make_scene):
    make_scene(tmp_path, "tomo", (20, 44, 38), 0)
    text = Reader(page(tmp_path)).text
    for plane in ("tomo · z = 10", "tomo · y = 22", "tomo · x = 19"):
        assert plane in text


def test_a_run_alone(tmp_path, make_run):
    make_run(tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 410, "lo')  # killed while writing
    for folder in (tmp_path, tmp_path / "run"):
        text = Reader(page(folder)).text
        assert "Training" in text
        assert "Before and after" not in text
        assert "no pictures" in text
        assert "cut off" in text
        assert SENTENCE in text


@pytest.mark.parametrize(
    ("missing", "said", "gone"),
    [
        ("truth", "no truth/", "Correlation with the truth"),
        ("halves", "no halves/", "is noisy − denoised"),
        ("denoised_halves", "no denoised_halves/", "what was removed from even"),
        ("denoised", "the mean of denoised_halves/ is shown", "nothing to compare"),
        ("denoised*", "nothing to compare the noisy pictures with", "is noisy − denoised"),
        ("run", "no training run", "Training"),
    ],
)
def test_what_is_missing_is_absent_and_said(tmp_path, demo, missing, said, gone):
    shutil.copytree(demo, tmp_path / "demo")
    for place in (tmp_path / "demo").glob(missing):
        shutil.rmtree(place)
    text = Reader(page(tmp_path / "demo")).text
    assert said in text
    assert gone not in text


@pytest.mark.parametrize("content", ["", "[]", '{"methods": 3}', '{"methods": {"a": 3}}'])
def test_a_table_that_is_none_is_left_out_and_said(tmp_path, make_run, content):
    make_run(tmp_path / "run")
    (tmp_path / "table.json").write_text(content)
    assert "table.json is left out" in page(tmp_path)


def test_a_faulty_picture_is_left_out_by_name(tmp_path, demo):
    shutil.copytree(demo, tmp_path / "demo")
    (tmp_path / "demo" / "denoised" / "micrograph_0.mrc").write_bytes(b"MAP")
    (tmp_path / "demo" / "halves" / "micrograph_1_ODD.mrc").unlink()
    text = Reader(page(tmp_path / "demo")).text
    assert "micrograph_0 is left out" in text
    assert "halves left out" in text
    assert "micrograph_1" in text


def test_nothing_to_report_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="nothing to report"):
        page(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        page(tmp_path / "none")


def test_the_inputs_are_only_read(demo):
    def state():
        return {path: path.stat().st_mtime_ns for path in demo.rglob("*")}

    before = state()
    page(demo)
    assert state() == before


def test_a_real_model_says_what_it_is(tmp_path, make_run):
    from safetensors.numpy import save_file

    make_run(tmp_path / "run")
    recipe = {"net": {"name": "unet"}, "scheme": {"name": "noise2noise"}}
    facts = {"pixel_size": 1.5, "step": 300, "validation": 0.97, "device": "cpu", "precision": "torch.float32"}
    metadata = {"deice": "0.1.0", "axes": "2", "recipe": json.dumps(recipe), "facts": json.dumps(facts)}
    save_file({"w": np.zeros((40, 50), np.float32)}, tmp_path / "run" / "model.safetensors", metadata)
    text = Reader(page(tmp_path)).text
    for said in ("unet", "2,000", "1.5 Å", "float32", "deice 0.1.0"):
        assert said in text


PROBE = """<script>
const stage = document.querySelector("[data-picture]:not([hidden]) .stage"), range = stage.querySelector("input");
range.value = 20; range.dispatchEvent(new Event("input"));
document.querySelector('[data-picture="1"] [data-side="right"][data-layer="truth"]').click();
document.querySelector('[data-show="2"]').click();
const shown = [...document.querySelectorAll("[data-picture]")].filter((p) => !p.hidden).map((p) => p.dataset.picture);
const broken = [...document.images].filter((i) => i.complete && !i.naturalWidth).length;
document.title = JSON.stringify({cut: stage.style.getPropertyValue("--cut"), shown, broken,
  clip: getComputedStyle(stage.querySelector("img.left")).clipPath,
  right: stage.querySelector("img.right").dataset.layer, tag: stage.querySelector(".tag.right").textContent});
</script></body>"""


def test_it_opens_in_a_browser_without_an_error_and_its_slider_moves(tmp_path, whole):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    file = tmp_path / "report.html"
    file.write_text(whole.replace("</body>", PROBE))
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.search(r"<title>(\{.*?\})</title>", done.stdout).group(1).replace("&amp;", "&"))
    assert found["cut"] == "20%"
    assert found["shown"] == ["2"]
    assert found["broken"] == 0
    assert found["right"] == found["tag"] == "truth"
    assert "80%" in found["clip"]


def test_images_of_other_grey_scale_and_pixel_size_share_a_plot_but_no_scale_in_angstrom(tmp_path, make_scene):
    from deice.image import Geometry, Image
    from deice.io import read, write
    from deice.report.comparison import compare
    from deice.report.evidence import gather

    for seed in range(2):
        make_scene(tmp_path, f"m{seed}", (64, 64), seed)
    assert compare(gather(tmp_path).scenes).pixel_size == 1.5
    for place in tmp_path.glob("*/m1*.mrc"):
        brighter = 1000 * read(place).views[:].astype(np.float32)
        write(place, Image(brighter, Geometry().with_pixel_size(2.0)))
    comparison = compare(gather(tmp_path).scenes)
    assert comparison.pixel_size is None
    first, second = (power.mean() for _, power in comparison.spectra["noisy"])
    assert first == pytest.approx(second, rel=0.3)
