"""What the house promises: quick help, pages that name what exists, one warning, a wheel that works alone."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import is_dataclass
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import numpy as np
import pytest

import deice
from deice.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LONGEST_FILE = 300  # lines; 250 is the budget of CONTRIBUTING.md
HELP_SECONDS = 0.4
WARNING = "Extract particles from the raw data, never from denoised"
PATH = re.compile(r"`((?:src|tests|docs|recipes)/[\w./-]*|[\w-]+\.(?:md|toml|txt)|Makefile)`")
HELP = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))
help_text = HELP["help_text"]
FUNCTION_OF = {words: function for words, function in HELP["verbs"]().items() if function is not None}
FUNCTIONS = [pytest.param(words, function, id="-".join(words)) for words, function in FUNCTION_OF.items()]
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:work|root|home|tmp|opt)/\w")


def said_by(*arguments: str, python: str = sys.executable, **options) -> str:
    """What a Python started with `arguments` prints; its exit code must be 0."""
    done = subprocess.run([python, *arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_is_quick():
    took = []
    for _ in range(5):
        before = os.times()
        said_by("-m", "deice", "--help")
        after = os.times()  # of the processor, so that a busy machine does not count
        took.append(sum(after[2:4]) - sum(before[2:4]))
    assert 0 < min(took) < HELP_SECONDS


def test_help_imports_neither_torch_nor_a_verb():
    code = "import sys; from deice.cli import run; assert run(['--help']) == 0; print('\\n'.join(sys.modules))"
    loaded = said_by("-c", code).splitlines()
    assert "deice.cli" in loaded
    assert not {"torch", "numpy", "matplotlib", "tifffile", *(f"deice.cli.{verb}" for verb in VERBS)} & set(loaded)


@pytest.mark.parametrize(("words", "function"), FUNCTIONS)
def test_the_help_of_every_verb_gives_an_example_and_explains_every_option(words, function):
    said = help_text(*words)
    assert f"Example: deice {' '.join(words)} " in said
    options = re.findall(r"^│ [* ]*(-[\w -]+?)(?:  +(\S.*?))? *│$", said, re.MULTILINE)
    assert options
    assert [name for name, explained in options if not explained] == []


@pytest.mark.parametrize(("words", "function"), FUNCTIONS)
def test_the_help_shows_every_word_of_its_docstrings(words, function):
    """The renderer drops words in angle brackets and takes asterisks for emphasis."""
    options = [kind for kind in vars(import_module(function.__module__)).values() if is_dataclass(kind)]
    before, *explained = cleandoc(function.__doc__).split("Parameters\n----------\n")
    explained += [cleandoc(kind.__doc__).split("----------\n")[-1] for kind in options]
    lines = [line for text in explained for line in text.splitlines() if line.startswith(" ")]
    said = set(help_text(*words).split())
    assert [word for word in " ".join([before, *lines]).split() if word.replace("`", "") not in said] == []


def test_the_warning_on_particles_stands_where_it_is_read():
    template = (ROOT / "src/deice/report/template.html.jinja").read_text()
    for place in (help_text(), help_text("denoise"), template, (ROOT / "README.md").read_text()):
        assert WARNING in " ".join(place.replace(">", " ").replace("*", "").split())


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_exists(page):
    named = set(PATH.findall((ROOT / page).read_text()))
    assert named or page == "README.md"
    real = [name for name in sorted(named) if "NAME" not in name and "VERB" not in name]
    assert [name for name in real if not (ROOT / name).exists()] == []


def test_the_floors_name_every_module():
    """A module on no floor is checked by nobody."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    listed = re.findall(r"^ *\d+  (.+)$", page, re.MULTILINE)
    on_floors = {name for floor in listed for name in floor.split(" | ")}
    package = ROOT / "src" / "deice"
    imports = re.compile(r"^\s*(from|import) deice", re.MULTILINE)
    tied = [path for path in package.glob("*.py") if imports.search(path.read_text())]
    modules = {path.stem for path in tied} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert modules - {"__init__", "__main__"} <= on_floors
    assert all((package / name).exists() or (package / f"{name}.py").exists() for name in on_floors)


def test_no_file_is_too_long():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_every_source_file_says_what_it_is():
    tools = runpy.run_path(str(ROOT / "docs" / "make_tree.py"))
    assert [str(path.relative_to(ROOT)) for path in SOURCES if not tools["caption"](path)] == []


def test_no_tracked_file_names_a_folder_of_one_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is not known")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in listed.splitlines():
        path = ROOT / name
        if path.is_file() and not name.startswith("tests/"):
            text = path.read_bytes().decode("utf-8", "ignore")
            found += [f"{name}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the sources as they are."""
    out = tmp_path_factory.mktemp("wheel")
    said_by("-m", "hatchling", "build", "-t", "wheel", "-d", str(out), cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_page_and_nothing_foreign(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for part in ("template.html.jinja", "style.css", "slider.js"):
        assert f"deice/report/{part}" in names
    assert {name.split("/")[0] for name in names} == {"deice", f"deice-{deice.__version__}.dist-info"}
    sources = {path.relative_to(ROOT / "src").as_posix() for path in SOURCES}
    assert {name for name in names if name.endswith(".py")} == sources


def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """The dependencies are lent by this environment; deice itself must come from the wheel."""
    place = tmp_path / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python = str(place / "bin" / "python")
    pip = ["-m", "pip", "--disable-pip-version-check", "--python", python]
    said_by(*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    (site,) = place.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    deice.write(tmp_path / "picture.mrc", np.random.default_rng(0).normal(size=(32, 48)).astype(np.float32))
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    where = said_by("-c", "import deice; deice.read; print(deice.__file__)", python=python, env=alone, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    said = said_by(str(place / "bin" / "deice"), "info", "picture.mrc", python=python, env=alone, cwd=tmp_path)
    assert "48 x 32 float32" in said
