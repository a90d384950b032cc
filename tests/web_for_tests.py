"""A web server on this machine that lists folders as Apache does, and misbehaves as it is told."""

from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote, unquote

ROW = ('<tr><td valign="top"><img src="/icons/x.gif" alt="[   ]"></td><td><a href="{link}">{shown}</a></td>'
       '<td align="right">2014-09-30 10:12  </td><td align="right">{size}</td><td>&nbsp;</td></tr>')  # fmt: skip
PAGE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html><head><title>Index of {path}</title></head><body><h1>Index of {path}</h1><table>
<tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=S;O=A">Size</a></th></tr>
<tr><td><a href="{parent}">Parent Directory</a></td><td>&nbsp;</td><td align="right">  - </td></tr>
{rows}
</table></body></html>
"""


class Site:
    """`files`: path → bytes. `faults`: path → what to do at the next requests, one after the other: (handler) → bool,
    True where the fault has answered. `asked`: (method, path, Range) of every request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Callable]] = defaultdict(list)
        self.asked: list[tuple[str, str, str]] = []
        self.modified, self.listed_sizes = 1.4e9, {}
        self.ranges = self.head = self.validators = True

    def start(self) -> str:
        """The address of the top folder, with no slash at its end."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def listing(self, folder: str) -> str:
        """`folder` begins and ends with "/"."""
        below: dict[str, str] = {}
        for path, content in self.files.items():
            if path.startswith(folder):
                name, slash, _ = path[len(folder) :].partition("/")
                below[name + slash] = "  - " if slash else self.listed_sizes.get(path, shown_size(len(content)))
        rows = [ROW.format(link=quote(name), shown=name[:20], size=size) for name, size in below.items()]
        return PAGE.format(path=folder, parent=folder.rstrip("/").rpartition("/")[0] + "/", rows="\n".join(rows))


def shown_size(size: int) -> str:
    """As Apache rounds it."""
    for unit in ("", "K", "M"):
        if size < 973:
            return f"{size:.1f}{unit}" if unit and size < 9.95 else f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.1f}G"


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path, site = unquote(self.path), self.site
        site.asked.append((self.command, path, self.headers.get("Range", "")))
        faults = site.faults[f"{self.command} {path}"]
        if faults and faults.pop(0)(self):
            return
        if self.command == "HEAD" and not site.head:
            self.plain(501)
        elif path in site.files:
            self.give(site.files[path])
        elif path.endswith("/") and any(name.startswith(path) for name in site.files):
            self.plain(200, site.listing(path).encode(), {"Content-Type": "text/html;charset=UTF-8"})
        else:
            self.plain(404)

    def plain(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bool:
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        return True

    def give(self, content: bytes, cut: int | None = None, length: int | None = None) -> bool:
        """The content, or the part asked for. cut: bytes after which the line goes dead.  length: what is promised."""
        start, site = 0, self.site
        if site.ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        headers = {"Content-Length": str((len(content) if length is None else length) - start)}
        if site.validators:
            headers |= {"Last-Modified": formatdate(site.modified, usegmt=True), "ETag": f'"{int(site.modified)}"'}
        if "Range" in self.headers and site.ranges:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if "Content-Range" in headers else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:][:cut])
        self.close_connection = True
        return True
