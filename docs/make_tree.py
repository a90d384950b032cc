"""Writes the lists that README.md and ARCHITECTURE.md hold: the tree of files with a caption each, and the floors.

A Python file's caption is the first sentence of its docstring, a page's and a notebook's its heading, a recipe's its
first comment.
"""

import ast
import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("docs", "recipes", "notebooks", "src/deice")
CAPTIONS = {
    "ARCHITECTURE.md": "the idea, the road of the data, who may import whom, the words",
    "CONTRIBUTING.md": "how to add a reader, a scheme, a network, a filter, a verb; the checks; proof of value",
    "CHANGELOG.md": "what changed for users",
    "LOG.md": "what was tried and did not help, with numbers",
    "Makefile": "setup, demo, test, check, gpu, docs",
    "pyproject.toml": "dependencies, tools, and the floors that import-linter enforces",
    "constraints.txt": "the exact versions that the tests ran with",
    "src/deice/report/template.html.jinja": "The page.",
    "src/deice/report/style.css": "Its looks.",
    "src/deice/report/slider.js": "Its slider, plain JavaScript.",
    "tests": "mirrors src; tests/laws holds what must be true of the whole",
}
WIDTH = 34  # columns before the captions


def tree() -> str:
    """The tree of files as text, a caption each."""
    top = [_line(0, name) for name in CAPTIONS if "/" not in name and name != "tests"]
    return "\n".join([*top, *(line for folder in SHOWN for line in _folder(ROOT / folder)), _line(0, "tests/")])


def floors() -> str:
    """The floors as import-linter reads them, the top one first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layers = [layer.replace("deice.", "") for layer in contract["layers"]]
    return "\n".join(f"{len(layers) - number:3}  {layer}" for number, layer in enumerate(layers))


def filled(page: Path, name: str, text: str) -> str:
    """`page` with `text` between its two marks called `name`."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    found = page.read_text(encoding="utf-8")
    assert pattern.search(found), f"{page.name} has no marks for {name}"
    return pattern.sub(lambda marks: f"{marks[1]}```text\n{text}\n```\n{marks[2]}", found)


def _folder(folder: Path, depth: int = 0) -> list[str]:
    """A folder's own line, its files, then its folders. The caption of a package is its __init__'s."""
    package = folder / "__init__.py"
    name = str(folder.relative_to(ROOT)) if depth == 0 else folder.name
    lines = [_line(depth, f"{name}/", caption(package) if package.exists() else "")]
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__pycache__"))]
    lines += [_line(depth + 1, path.name, caption(path)) for path in inside if path.is_file() and path != package]
    for path in inside:
        if path.is_dir():
            lines += _folder(path, depth + 1)
    return lines


def caption(path: Path) -> str:
    """What a file is, in its own words."""
    place = path.relative_to(ROOT).as_posix()
    if place in CAPTIONS:
        return CAPTIONS[place]
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    if path.suffix == ".ipynb":
        return json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0].lstrip("#").strip()
    if path.suffix in (".md", ".toml"):
        return path.read_text(encoding="utf-8").lstrip("#").split("\n")[0].strip()
    return ""


def _line(depth: int, name: str, text: str | None = None) -> str:
    text = CAPTIONS.get(name.rstrip("/"), "") if text is None else text
    return f"{'  ' * depth + name:{WIDTH}}  {text.rstrip('.')}".rstrip()


if __name__ == "__main__":
    for target, mark, content in (("README.md", "tree", tree()), ("ARCHITECTURE.md", "floors", floors())):
        (ROOT / target).write_text(filled(ROOT / target, mark, content), encoding="utf-8")
