"""Asking a web server patiently: one that fails is asked again, later and later; one that refuses is believed.

Standard library only: proxies (HTTPS_PROXY, NO_PROXY …) and redirects are urllib's.
"""

import logging
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from threading import Event
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from deice.errors import UserError
from deice.version import __version__

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
PASSING = {408, 425, 429, 500, 502, 503, 504}  # status codes that may be gone the next time
LONGEST_PAUSE = 60.0  # seconds, of our own accord
LONGEST_WAIT = 900.0  # seconds, where the server asks for it
HEADERS = {"User-Agent": f"deice/{__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Patience:
    """tries: failures in a row before giving up.  pause: seconds before the second try, doubled each time.

    timeout: seconds of silence after which a connection counts as dropped.
    """

    tries: int = 6
    pause: float = 2.0
    timeout: float = 60.0


PATIENT = Patience()


class Refused(UserError):
    """Asking again would not help. `code`: the HTTP status, 0 where there was none."""

    def __init__(self, message: str, code: int = 0):
        super().__init__(message)
        self.code = code


class GaveUp(Refused):
    """The server failed time after time."""


class Trouble(Exception):
    """Asking again may help. `wait`: seconds that the server asks for."""

    def __init__(self, message: str, wait: float = 0.0):
        super().__init__(message)
        self.wait = wait


class Stopped(Exception):
    """The work was called off from outside."""


class Tries:
    """Counts failures in a row, and waits longer after each."""

    def __init__(self, patience: Patience, stop: Event):
        self.patience, self.stop, self.failures = patience, stop, 0

    def again(self, trouble: Trouble) -> None:
        """Wait before the next try. Raises GaveUp after the last one, Stopped when called off meanwhile."""
        self.failures += 1
        if self.failures >= self.patience.tries:
            raise GaveUp(f"{trouble}; given up after {self.failures} tries: run again later, it goes on from here")
        pause = max(trouble.wait, min(self.patience.pause * 2 ** (self.failures - 1), LONGEST_PAUSE))
        if pause > LONGEST_WAIT:
            raise GaveUp(f"{trouble}; the server asks to be left alone for {pause:.0f} s: run again then")
        if self.failures == 2:  # a single hiccup is not worth a word
            log.info("%s; asking again, %d times at most", trouble, self.patience.tries)
        if self.stop.wait(pause):
            raise Stopped


def patiently(ask: Callable[[], Answer], patience: Patience, stop: Event) -> Answer:
    """What `ask` returns, once it does so without Trouble."""
    tries = Tries(patience, stop)
    while True:
        try:
            return ask()
        except Trouble as trouble:
            tries.again(trouble)


def open_address(address: str, patience: Patience, method: str = "GET", span: str = "") -> HTTPResponse:
    """The server's answer, body unread. span: "100-" asks for the bytes from there on, which it may ignore.

    Raises Trouble or Refused.
    """
    headers = HEADERS | ({"Range": f"bytes={span}"} if span else {})
    with on_the_line(address):
        # no opener is kept: proxies are read from the environment as it is now
        return build_opener().open(Request(address, headers=headers, method=method), timeout=patience.timeout)


@contextmanager
def on_the_line(address: str) -> Generator[None]:
    """What goes wrong with a connection within the block is raised as Trouble or as Refused."""
    try:
        yield
    except HTTPError as error:
        error.close()
        said = f"{address}: the server says {error.code} {' '.join(str(error.reason).split())}"
        if error.code in PASSING:
            raise Trouble(said, _retry_after(error.headers)) from None
        raise Refused(said, error.code) from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Refused(f"{address}: the server's certificate is not valid ({error.reason.verify_message})") from None
        raise Trouble(f"{address}: no connection ({error.reason}; check address, network, HTTPS_PROXY)") from None
    except (InvalidURL, ValueError) as error:
        raise Refused(f"{address}: not an address that can be asked ({error})") from None
    except (HTTPException, OSError) as error:
        raise Trouble(f"{address}: the connection broke ({str(error) or type(error).__name__})") from None


def _retry_after(headers: Message) -> float:
    """Seconds that a Retry-After header asks for, given as a number or as a date; 0 without one."""
    said = headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0
