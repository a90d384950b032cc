"""Directory listings as web servers print them (Apache's mod_autoindex, nginx, lighttpd, Python): who lies where.

A child is a link to something directly below the page's own address. Sizes in listings are rounded; they only serve
to catch a server that promises another length.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from threading import Event
from urllib.parse import quote, unquote, urljoin, urlsplit

from deice.errors import UserError
from deice.fetch.web import Patience, Refused, Trouble, on_the_line, open_address, patiently

log = logging.getLogger(__name__)

DEEPEST = 24  # folders within folders; a link that leads back up would go on for ever
LARGEST_PAGE = 256 << 20  # bytes
SIZE = re.compile(r"\d\d?:\d\d(?::\d\d)?\s+(\d+)(\.\d+)?\s?([KMGTPE]?)(?:i?B)?(?:\s|$)")  # what follows the time


@dataclass(frozen=True)
class Listed:
    """A file of a listing. path: below the top folder, with "/".  size: (least, most) bytes that its row can mean."""

    path: str
    address: str
    size: tuple[int, int] | None = None


class _Links(HTMLParser):
    """Each link with the text that follows it, up to the next link."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[list[str]] = []
        self.within = self.opened = self.closed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened |= tag in ("html", "body")
        if tag == "a":
            self.links.append([dict(attrs).get("href") or "", ""])
        elif self.links:
            self.links[-1][1] += " "  # cells of a table stand apart
        self.within |= tag == "a"

    def handle_endtag(self, tag: str) -> None:
        self.closed |= tag in ("html", "body")
        self.within &= tag != "a"

    def handle_data(self, data: str) -> None:
        if self.links and not self.within:
            self.links[-1][1] += data


def walk(address: str, patience: Patience) -> Iterator[Listed]:
    """Every file below the folder at `address`, in the order of the listings.

    Raises UserError for a folder that does not exist or cannot be listed to its end.
    """
    yield from _below(_encoded(address.rstrip("/")) + "/", "", patience)


def _below(address: str, folder: str, patience: Patience) -> Iterator[Listed]:
    if folder.count("/") > DEEPEST:
        raise UserError(f"{address}: folders within folders without end; fetch a folder below by its own address")
    address, page = patiently(lambda: _page(address, patience), patience, Event())
    for name, link, size in children(page, address):
        if link.endswith("/"):
            yield from _below(link, f"{folder}{name}/", patience)
        else:
            yield Listed(folder + name, link, size)


def _page(address: str, patience: Patience) -> tuple[str, str]:
    """The listing's own address (after redirects) and its text. Raises Trouble where it is cut short."""
    with on_the_line(address), open_address(address, patience) as response:
        kind = response.headers.get_content_type()
        if kind not in ("text/html", "application/xhtml+xml"):
            raise Refused(f"{address}: found {kind}; expected the listing of a folder (HTML): give a folder's address")
        page = response.read(LARGEST_PAGE)
        promised = int(response.headers.get("Content-Length") or len(page))
    if len(page) < promised:
        raise Trouble(f"{address}: the listing ends after {len(page)} of {promised} bytes")
    text = page.decode("utf-8", "surrogateescape")
    links = _parsed(text)
    if links.opened and not links.closed:
        raise Trouble(f"{address}: the listing is cut short, its end is missing")
    return response.url, text


def children(page: str, address: str) -> Iterator[tuple[str, str, tuple[int, int] | None]]:
    """(name, address, bytes it can have) of what lies directly below `address`; folders' addresses end with "/".

    A name that would lead elsewhere on disk is left out, with a warning.
    """
    top = urlsplit(_encoded(address))
    found: dict[str, tuple[str, tuple[int, int] | None]] = {}
    for href, after in _parsed(page).links:
        link = urlsplit(_encoded(urljoin(address, href.strip())))
        below = link.path.removeprefix(top.path)
        if link.query or link.netloc != top.netloc or below == link.path or "/" in below.rstrip("/"):
            continue
        name = unquote(below.rstrip("/"), errors="backslashreplace")  # a name that any screen can show
        if name in ("", "."):
            continue
        if name == ".." or "/" in name or "\0" in name:
            log.warning("%s: left out a file with the unsafe name %r", address, name)
            continue
        known = found.get(name, ("", None))[1]  # an icon may be a link of its own, without a size
        found[name] = (link._replace(fragment="").geturl(), listed_size(after) or known)
    for name, (where, size) in found.items():
        yield name, where, size


def listed_size(row: str) -> tuple[int, int] | None:
    """The bytes (least, most) that a row's size can mean: "2014-09-30 10:12  217M" → 216 to 218 times 1000² to 1024².

    Servers differ in rounding, and some count in thousands. None where the row gives no size.
    """
    found = SIZE.search(row)
    if found is None:
        return None
    whole, part, unit = found[1], found[2] or "", found[3]
    if not unit:
        return None if part else (int(whole), int(whole))
    value, last_digit, power = float(whole + part), 10.0 ** -max(len(part) - 1, 0), "KMGTPE".index(unit) + 1
    return int((value - last_digit) * 1000**power), int((value + last_digit) * 1024**power)


def _encoded(address: str) -> str:
    """`address` with what may not stand in one (spaces, letters beyond ASCII) percent-encoded, the rest as it is."""
    return quote(address, safe="/%:@!$&'()*+,;=~?#[]", errors="surrogateescape")


def _parsed(page: str) -> _Links:
    links = _Links()
    links.feed(page)
    links.close()
    return links
