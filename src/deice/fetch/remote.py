"""A file as a web server offers it: how long, which version, with which digests. Asked for before a byte is fetched."""

import logging
from base64 import b64decode
from dataclasses import dataclass, field
from http.client import HTTPMessage, HTTPResponse
from threading import Event

from deice.fetch.listing import Listed
from deice.fetch.web import Patience, Refused, open_address, patiently

log = logging.getLogger(__name__)

NO_HEAD = (400, 403, 405, 501)  # how servers refuse HEAD
DIGESTS = {"md5": "md5", "sha-256": "sha256", "sha-512": "sha512"}  # in HTTP → in hashlib


@dataclass(frozen=True)
class Remote:
    """path: below the top folder.  size: bytes.  version: ETag and Last-Modified, as far as the server gives them.

    digests: hashlib's name → what the whole file must give, if the server says.
    """

    path: str
    address: str
    size: int
    version: dict[str, str] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)


def look_at(listed: Listed, patience: Patience, stop: Event) -> Remote:
    """Ask for a listed file's exact size; UserError where the server does not tell it or contradicts its listing."""

    def ask() -> Remote:
        remote = _ask(listed, patience)
        if listed.size is not None and not listed.size[0] <= remote.size <= listed.size[1]:
            span = " to ".join(str(size) for size in sorted(set(listed.size)))
            raise Refused(f"{listed.address}: the server promises {remote.size} bytes, its listing {span}; "
                          "expected the same: try again later, or ask the archive")  # fmt: skip
        return remote

    return patiently(ask, patience, stop)


def _ask(listed: Listed, patience: Patience) -> Remote:
    """By HEAD; of servers that know none or give no length with it, by GET for the first byte (RFC 9110, 14.2)."""
    try:
        with open_address(listed.address, patience, "HEAD") as response:
            size = whole_length(response)
            if size is not None:
                headers = response.headers
                return Remote(listed.path, listed.address, size, version_of(headers), _digests(headers))
    except Refused as refused:
        if refused.code not in NO_HEAD:
            raise
    with open_address(listed.address, patience, span="0-0") as response:
        size = whole_length(response)
        if size is None:
            raise Refused(f"{listed.address}: the server does not say how long the file is; it could not be checked")
        return Remote(listed.path, listed.address, size, version_of(response.headers))


def whole_length(response: HTTPResponse) -> int | None:
    """Bytes of the whole file, whatever part of it the answer holds; None where the server does not say."""
    stated = response.headers.get("Content-Length", "")
    if response.status == 206:
        stated = response.headers.get("Content-Range", "").partition("/")[2]
    return int(stated) if stated.isdecimal() else None


def version_of(headers: HTTPMessage) -> dict[str, str]:
    """What tells one version of a file from another."""
    return {name: headers[name] for name in ("ETag", "Last-Modified") if headers[name]}


def same_version(one: dict[str, str], other: dict[str, str]) -> bool:
    """Nothing says that they differ; where nothing tells versions apart, they count as different."""
    both = one.keys() & other.keys()
    return bool(both) and all(one[name] == other[name] for name in both)


def _digests(headers: HTTPMessage) -> dict[str, bytes]:
    """What Content-MD5 (RFC 1864), Digest (RFC 3230) and Repr-Digest (RFC 9530) say of the whole file."""
    said = [f"md5={headers.get('Content-MD5', '')}", *headers.get("Digest", "").split(",")]
    said += [entry.replace(":", "") for entry in headers.get("Repr-Digest", "").split(",")]
    found = {}
    for entry in said:
        name, _, value = entry.strip().partition("=")
        if name.lower() in DIGESTS and value:
            try:
                found[DIGESTS[name.lower()]] = b64decode(value, validate=True)
            except ValueError:
                log.warning("a %s of the server that is no base64 (%r) is not checked", name, value)
    return found
