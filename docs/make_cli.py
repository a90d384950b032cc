"""Writes docs/cli.md: what `deice --help` and `deice VERB --help` print, 100 columns wide."""

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from cyclopts import App
from rich.console import Console

from deice.cli import VERBS, build_app

PAGE = Path(__file__).with_name("cli.md")
COLUMNS = 100


def verbs() -> dict[tuple[str, ...], Callable | None]:
    """The words that call each verb → its function; a verb that only holds others ("bench") has none."""
    found: dict[tuple[str, ...], Callable | None] = {}
    for verb in VERBS:
        part = getattr(import_module(f"deice.cli.{verb}"), verb)
        found[verb,] = None if isinstance(part, App) else part
        if isinstance(part, App):
            found |= {(verb, name): part[name].default_command for name in part if not name.startswith("-")}
    return found


def help_text(*words: str) -> str:
    """What `deice WORDS --help` prints, without colours and without spaces at the ends of lines."""
    screen = io.StringIO()
    console = Console(file=screen, width=COLUMNS, color_system=None, force_terminal=False, legacy_windows=False)
    build_app(*words[:1]).help_print(list(words), console=console)
    return "\n".join(line.rstrip() for line in screen.getvalue().strip().splitlines())


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# The command line",
        "This page is what the program itself prints; `make docs` writes it anew.",
        "Exit codes: 0 done · 2 the input is at fault (one line: what was found, what was expected, what to do) · "
        "3 some files of a batch failed, each is named, the others are done · "
        "1 our fault, with a traceback (`deice verify`: with a line). "
        "Progress and warnings go to stderr; `--json -` writes figures to stdout.",
        _block(help_text()),
    ]
    for words in verbs():
        parts += [f"## deice {' '.join(words)}", _block(help_text(*words))]
    return "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
