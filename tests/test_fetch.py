"""Fetching from a server on this machine that drops connections, lies about lengths, and fails."""

import hashlib
import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections import namedtuple
from email.utils import formatdate
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from test_docs import ROOT, commands
from web_for_tests import Site, shown_size

import deice
from deice.cli import run
from deice.errors import RecipeFault, UserError
from deice.fetch import Patience, address_of, bring, choose, list_entry, look_at_all, make_plan
from deice.fetch.listing import children, listed_size
from deice.fetch.transfer import note_of, part_of
from deice.sizes import parse_bytes, say_bytes

QUICK = Patience(tries=3, pause=0.01, timeout=5)
MOVIE = random.Random(0).randbytes(700_000)
PATH = "/10025/data/raw/a movie.mrc"  # a name that must be encoded


@pytest.fixture
def site():
    site = Site()
    site.files = {"/10025/10025.xml": b"<entry/>", PATH: MOVIE, "/10025/data/raw/gain.mrc": MOVIE[:3000],
                  "/10025/data/averaged/b#1%.mrc": MOVIE[:5000], "/10025/data/averaged/none.txt": b""}  # fmt: skip
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def archive(site, monkeypatch) -> str:
    address = site.start()
    monkeypatch.setenv("DEICE_EMPIAR", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return address


def fetched(out: Path, only=(), parallel: int = 2, **how) -> dict[str, tuple[str, str]]:
    """path → (state, reason) after one fetch of the entry."""
    listed = choose(list(list_entry(address_of("EMPIAR-10025"), QUICK)), only)
    plan = make_plan(list(look_at_all(listed, parallel, QUICK)), listed, out, **how)
    moved = sum(news.moved for news in bring(plan, parallel, QUICK))
    if all(outcome.state in ("written", "skipped") for outcome in plan.outcomes.values()):
        assert moved == plan.missing
    return {path: (outcome.state, outcome.reason) for path, outcome in plan.outcomes.items()}


def states(outcomes: dict) -> set[str]:
    return {state for state, _ in outcomes.values()}


def movie_in(out: Path) -> Path:
    return out / PATH.removeprefix("/10025/")


def gets(site: Site) -> list[str]:
    """The ranges asked for of the movie's bytes."""
    return [asked for method, path, asked in site.asked if (method, path) == ("GET", PATH)]


def cut_at(size: int):
    return lambda handler: handler.give(MOVIE, cut=size)


def failing(code: int, **headers: str):
    return lambda handler: handler.plain(code, b"no", headers)


# the whole road


def test_an_entry_arrives_whole_and_a_second_run_fetches_nothing(site, archive, tmp_path):
    assert states(fetched(tmp_path)) == {"written"}
    for path, content in site.files.items():
        assert (tmp_path / path.removeprefix("/10025/")).read_bytes() == content
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == len(site.files)  # no parts, no notes
    site.asked.clear()
    assert states(fetched(tmp_path)) == {"skipped"}
    assert not gets(site)


def test_the_verb_fetches_lists_and_says_what_became_of_each_file(site, archive, tmp_path, capsys):
    assert run(["fetch", "EMPIAR-10025", "-o", str(tmp_path / "a"), "--only", "raw", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == ["    700 kB  to fetch  data/raw/a movie.mrc",
                                                    "      3 kB  to fetch  data/raw/gain.mrc"]  # fmt: skip
    assert not (tmp_path / "a").exists()
    site.faults[f"GET {PATH}"] = [failing(403)]
    assert run(["fetch", "10025", "-o", str(tmp_path / "a"), "--json", str(tmp_path / "a.json")]) == 3
    said = capsys.readouterr().err
    assert "data/raw/a movie.mrc: http" in said
    assert "1 of 5 files failed" in said
    by_path = {entry["path"]: entry for entry in json.loads((tmp_path / "a.json").read_text())}
    assert by_path["data/raw/a movie.mrc"]["state"] == "failed"
    assert "403" in by_path["data/raw/a movie.mrc"]["reason"]
    assert by_path["data/raw/gain.mrc"] == {"path": "data/raw/gain.mrc", "bytes": 3000, "state": "written",
                                            "reason": ""}  # fmt: skip
    assert run(["fetch", "EMPIAR-10025", "-o", str(tmp_path / "a")]) == 0
    assert "4 complete before, skipped" in capsys.readouterr().err


def test_any_folder_of_any_server_can_be_fetched_by_its_address(site, archive, tmp_path):
    assert run(["fetch", f"{archive}/10025/data/raw", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "a movie.mrc").read_bytes() == MOVIE


def test_redirects_are_followed(site, archive, tmp_path):
    site.faults["GET /10025/"] = [failing(301, Location="/mirror/10025/")]
    site.files |= {path.replace("/10025", "/mirror/10025", 1): content for path, content in site.files.items()}
    site.faults["HEAD /mirror" + PATH] = [failing(302, Location="/elsewhere/movie")]
    site.faults["GET /mirror" + PATH] = [failing(302, Location="/elsewhere/movie")]
    site.files["/elsewhere/movie"] = MOVIE
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).read_bytes() == MOVIE


def test_a_proxy_of_the_environment_is_asked(site, archive, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", archive)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    site.files = {"http://archive.test/data/x.mrc": MOVIE}
    assert run(["fetch", "http://archive.test/data", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "x.mrc").read_bytes() == MOVIE


# connections that break


def test_a_dropped_connection_goes_on_where_it_broke(site, archive, tmp_path):
    site.faults[f"GET {PATH}"] = [cut_at(300_000), cut_at(100_000)]
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).read_bytes() == MOVIE
    assert gets(site) == ["", "bytes=300000-", "bytes=400000-"]


def test_drops_without_end_are_survived_as_long_as_each_try_gets_further(site, archive, tmp_path):
    site.faults[f"GET {PATH}"] = [cut_at(100_000)] * 6  # more than QUICK.tries
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).read_bytes() == MOVIE


def test_a_server_that_gets_nowhere_is_given_up_and_the_part_is_kept_for_the_next_run(site, archive, tmp_path):
    site.faults[f"GET {PATH}"] = [cut_at(300_000), *[failing(503)] * 2]
    outcomes = fetched(tmp_path)
    state, reason = outcomes.pop("data/raw/a movie.mrc")
    assert state == "failed"
    assert "503" in reason
    assert "3 tries" in reason
    assert states(outcomes) == {"written"}
    assert not movie_in(tmp_path).exists()
    assert part_of(movie_in(tmp_path)).read_bytes() == MOVIE[:300_000]
    site.asked.clear()
    assert states(fetched(tmp_path)) == {"written", "skipped"}
    assert movie_in(tmp_path).read_bytes() == MOVIE
    assert gets(site) == ["bytes=300000-"]
    assert not note_of(movie_in(tmp_path)).exists()


def test_a_server_without_ranges_sends_the_file_anew(site, archive, tmp_path):
    site.ranges = False
    site.faults[f"GET {PATH}"] = [cut_at(300_000)]
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).read_bytes() == MOVIE
    assert len(gets(site)) == 2


def test_a_server_without_ranges_that_always_drops_is_given_up(site, archive, tmp_path):
    site.ranges = False
    site.faults[f"GET {PATH}"] = [cut_at(300_000)] * 99
    assert fetched(tmp_path)["data/raw/a movie.mrc"][0] == "failed"
    assert len(gets(site)) == QUICK.tries


def test_errors_of_the_server_pass_and_retry_after_is_honoured(site, archive, tmp_path):
    site.faults["GET /10025/"] = [failing(500)]
    site.faults["GET /10025/data/raw/"] = [failing(502), failing(504)]
    site.faults[f"HEAD {PATH}"] = [failing(503)]
    site.faults[f"GET {PATH}"] = [failing(429, **{"Retry-After": "1"})]
    began = time.monotonic()
    assert states(fetched(tmp_path)) == {"written"}
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("told", ["in seconds", "as a date"])
def test_a_server_that_wants_to_be_left_alone_for_a_day_is(site, archive, tmp_path, told):
    when = "86400" if told == "in seconds" else formatdate(time.time() + 86400, usegmt=True)
    site.faults[f"GET {PATH}"] = [failing(503, **{"Retry-After": when})]
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert state == "failed"
    assert "asks to be left alone for 86" in reason


def test_a_silent_server_counts_as_a_dropped_connection(site, archive, tmp_path):
    def silent(handler):
        handler.give(MOVIE, cut=200_000)
        handler.wfile.flush()
        time.sleep(0.6)
        return True

    site.faults[f"GET {PATH}"] = [silent]
    listed = choose(list(list_entry(address_of("EMPIAR-10025"), QUICK)), ["a movie.mrc"])
    plan = make_plan(list(look_at_all(listed, 1, QUICK)), listed, tmp_path)
    list(bring(plan, 1, Patience(tries=3, pause=0.01, timeout=0.2)))
    assert movie_in(tmp_path).read_bytes() == MOVIE
    assert gets(site) == ["", "bytes=200000-"]


def test_a_server_that_is_down_does_not_hold_every_file_up(site, archive, tmp_path):
    site.files = {f"/10025/{number}": b"x" for number in range(30)}
    for path in site.files:
        site.faults[f"GET {path}"] = [failing(503)] * 9
    outcomes = fetched(tmp_path, parallel=2)
    assert states(outcomes) == {"failed"}
    assert sum("not tried" in reason for _, reason in outcomes.values()) >= 20
    assert sum(method == "GET" for method, path, _ in site.asked if path in site.files) <= 3 * (2 + 3 + 2)


def test_a_server_that_is_down_before_the_sizes_are_known_is_given_up(site, archive, tmp_path):
    site.files = {f"/10025/{number}": b"x" for number in range(30)}
    for path in site.files:
        site.faults[f"HEAD {path}"] = [failing(503)] * 9
    with pytest.raises(UserError, match=r"503.*files in a row"):
        fetched(tmp_path, parallel=2)
    assert sum(method == "HEAD" for method, _, _ in site.asked) <= QUICK.tries * (2 + 3 + 2)


def test_no_server_at_all_is_said(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match="no connection"):
        list(list_entry("http://127.0.0.1:9/a folder", QUICK))


# a killed fetch

# a shell's background jobs are born with Ctrl-C ignored
KILLED = """
import signal, sys
from pathlib import Path
from deice.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(run(["fetch", "EMPIAR-10025", "-o", sys.argv[1], "--parallel", "1"]))
"""


def until(happens, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def slow(handler) -> bool:
    """Half of the file, then nothing for a long while."""
    handler.give(MOVIE, cut=350_000)
    handler.wfile.flush()
    time.sleep(5)
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fetch_goes_on_where_it_was(site, archive, tmp_path, how):
    site.faults[f"GET {PATH}"] = [slow]
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    part = part_of(movie_in(tmp_path))
    until(lambda: part.exists() and part.stat().st_size == 350_000)
    process.send_signal(how)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert "Traceback" not in said
    assert not movie_in(tmp_path).exists()
    site.asked.clear()
    assert states(fetched(tmp_path)) <= {"written", "skipped"}
    assert movie_in(tmp_path).read_bytes() == MOVIE
    assert gets(site) == ["bytes=350000-"]


def test_two_fetches_into_one_folder_do_not_mix(site, archive, tmp_path):
    site.faults[f"GET {PATH}"] = [slow]
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stderr=subprocess.DEVNULL)
    part = part_of(movie_in(tmp_path))
    until(lambda: part.exists() and part.stat().st_size == 350_000)
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert (state, part.stat().st_size) == ("failed", 350_000)
    assert "another deice fetch" in reason
    process.kill()
    process.wait()


# versions, lengths, digests


def left(out: Path, site: Site) -> None:
    """The part of an earlier fetch: 300,000 bytes of the movie as the site offers it now."""
    site.faults[f"GET {PATH}"] = [cut_at(300_000), *[failing(503)] * 2]
    fetched(out)
    assert part_of(movie_in(out)).stat().st_size == 300_000
    site.asked.clear()


def test_a_file_that_changed_on_the_server_begins_anew(site, archive, tmp_path):
    left(tmp_path, site)
    site.files[PATH], site.modified = MOVIE[::-1], site.modified + 60
    fetched(tmp_path)
    assert movie_in(tmp_path).read_bytes() == MOVIE[::-1]
    assert gets(site) == [""]


def test_a_file_that_changes_between_two_connections_begins_anew(site, archive, tmp_path):
    def change(handler):
        site.files[PATH], site.modified = MOVIE[::-1], site.modified + 60
        return False

    site.faults[f"GET {PATH}"] = [cut_at(300_000), change]
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).read_bytes() == MOVIE[::-1]


def test_a_server_that_tells_no_versions_apart_sends_the_file_anew(site, archive, tmp_path):
    site.validators = False
    left(tmp_path, site)
    fetched(tmp_path)
    assert movie_in(tmp_path).read_bytes() == MOVIE
    assert gets(site) == [""]


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"size": 700000, "version": 3}', "\0"])
def test_a_part_whose_note_is_damaged_begins_anew(site, archive, tmp_path, note):
    left(tmp_path, site)
    note_of(movie_in(tmp_path)).write_text(note)
    part_of(movie_in(tmp_path)).write_bytes(bytes(300_000))
    fetched(tmp_path)
    assert movie_in(tmp_path).read_bytes() == MOVIE


def test_a_part_longer_than_the_file_begins_anew(site, archive, tmp_path):
    left(tmp_path, site)
    part_of(movie_in(tmp_path)).write_bytes(MOVIE + b"more")
    fetched(tmp_path)
    assert movie_in(tmp_path).read_bytes() == MOVIE


@pytest.mark.parametrize("length", [200_000, 900_000])
def test_a_length_that_contradicts_the_listing_is_refused(site, archive, tmp_path, length):
    site.faults[f"HEAD {PATH}"] = [lambda handler: handler.give(MOVIE, length=length)]
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert state == "failed"
    assert f"promises {length} bytes, its listing" in reason
    assert not movie_in(tmp_path).exists()


@pytest.mark.parametrize("length", [699_000, 701_000])
def test_an_answer_of_another_length_than_promised_is_refused(site, archive, tmp_path, length):
    site.faults[f"GET {PATH}"] = [lambda handler: handler.give(MOVIE, length=length)]
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert (state, movie_in(tmp_path).exists()) == ("failed", False)
    assert f"promised 700000 bytes, now {length}" in reason
    assert states(fetched(tmp_path)) == {"written", "skipped"}


def test_more_bytes_than_promised_are_refused(site, archive, tmp_path):
    def endless(handler):  # no length: until the line ends
        handler.send_response(200)
        handler.send_header("ETag", '"1400000000"')
        handler.end_headers()
        handler.wfile.write(MOVIE + b"more")
        handler.close_connection = True
        return True

    site.faults[f"GET {PATH}"] = [endless]
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert (state, movie_in(tmp_path).exists()) == ("failed", False)
    assert "sends more than the 700000 bytes" in reason


def test_fewer_bytes_than_promised_at_every_try_are_a_failure(site, archive, tmp_path):
    site.files[PATH] = MOVIE[:-1]
    site.faults[f"HEAD {PATH}"] = [lambda handler: handler.give(MOVIE)]
    site.faults[f"GET {PATH}"] = [lambda handler: handler.give(MOVIE[:-1], length=700_000)] * 99
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert (state, movie_in(tmp_path).exists()) == ("failed", False)
    assert "699999" in reason or "700000" in reason


def test_sizes_come_from_servers_without_head_too(site, archive, tmp_path):
    site.head = False
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).read_bytes() == MOVIE


def test_a_file_whose_length_nobody_tells_is_not_fetched(site, archive, tmp_path):
    def mute(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        return True

    site.faults[f"HEAD {PATH}"] = site.faults[f"GET {PATH}"] = [mute] * 9
    assert "does not say how long" in fetched(tmp_path)["data/raw/a movie.mrc"][1]


@pytest.mark.parametrize(
    ("header", "form", "name"),
    [("Repr-Digest", "sha-256=:{}:", "sha256"), ("Digest", "SHA-512={}", "sha512"), ("Content-MD5", "{}", "md5"),
     ("Digest", "crc32=1, sha-256={}", "sha256")],
)  # fmt: skip
@pytest.mark.parametrize("true", [True, False])
def test_a_digest_that_the_server_publishes_is_checked(site, archive, tmp_path, header, form, name, true):
    digest = b64encode(hashlib.new(name, MOVIE if true else b"other").digest()).decode()
    headers = {"Content-Length": "700000", header: form.format(digest)}
    site.faults[f"HEAD {PATH}"] = [lambda handler: handler.plain(200, b"", headers)]
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert (state, movie_in(tmp_path).exists()) == (("written", True) if true else ("failed", False))
    assert true or f"the {name} is" in reason
    assert not part_of(movie_in(tmp_path)).exists()


# what is chosen


def test_max_size_takes_whole_files_in_order_and_says_what_it_leaves(site, archive, tmp_path, capsys):
    argv = ["fetch", "EMPIAR-10025", "-o", str(tmp_path), "--max-size", "701kB"]
    assert run(argv) == 0
    said = capsys.readouterr().err
    assert "left out by --max-size 701kB: 3 files, 8 kB, from data/raw/gain.mrc on" in said
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"10025.xml", "a movie.mrc"}
    assert run(argv) == 0  # the same choice again: what is there counts
    assert names == {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert run([*argv[:-1], "lots"]) == 2
    assert "--max-size 'lots'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("only", "names"),
    [(["averaged"], {"b#1%.mrc", "none.txt"}), (["data/raw/*.mrc"], {"a movie.mrc", "gain.mrc"}),
     (["gain.mrc", "*.xml"], {"gain.mrc", "10025.xml"}),
     (["raw/", "none.txt"], {"a movie.mrc", "gain.mrc", "none.txt"}),
     (["data/*"], {"a movie.mrc", "gain.mrc", "b#1%.mrc", "none.txt"})],
)  # fmt: skip
def test_only_takes_names_folders_and_patterns(site, archive, tmp_path, only, names):
    fetched(tmp_path, only)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == names


def test_a_file_of_another_size_is_only_replaced_when_asked(site, archive, tmp_path):
    movie_in(tmp_path).parent.mkdir(parents=True)
    movie_in(tmp_path).write_bytes(b"mine")
    state, reason = fetched(tmp_path)["data/raw/a movie.mrc"]
    assert (state, movie_in(tmp_path).read_bytes()) == ("failed", b"mine")
    assert "4 bytes under this name, the archive's file has 700000" in reason
    assert fetched(tmp_path, overwrite=True)["data/raw/a movie.mrc"][0] == "written"
    assert movie_in(tmp_path).read_bytes() == MOVIE


def test_a_folder_where_a_file_should_be_fails_that_file(site, archive, tmp_path):
    movie_in(tmp_path).mkdir(parents=True)
    (tmp_path / "data" / "averaged").write_bytes(b"a file where a folder should be")
    outcomes = fetched(tmp_path, overwrite=True)
    assert {path for path, (state, _) in outcomes.items() if state == "failed"} == {
        "data/raw/a movie.mrc", "data/averaged/b#1%.mrc", "data/averaged/none.txt"}  # fmt: skip


# bad input: one line, exit code 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(["EMPIAR-10026"], "404"), (["EMPIAR-25"], "expected EMPIAR-NNNNN"), (["ftp://x/y"], "expected EMPIAR-NNNNN"),
     (["EMPIAR-10025", "--only", "*.tif"], "none of 5 files; expected one of those in ., data/raw, data/averaged"),
     (["EMPIAR-10025", "--parallel", "0"], "expected 1 to 32"), (["EMPIAR-10025", "--max-size", "0"], "--max-size '0'"),
     (["EMPIAR-10025", "--from", "archive"], "expected an address that begins with http"),
     (["http://127.0.0.1/x", "--from", "http://127.0.0.1"], "two addresses"),
     (["{archive}/10025/10025.xml"], "404"), (["{archive}/10025/data/raw/gain.mrc/.."], "400")],
)  # fmt: skip
def test_bad_input_is_one_line(site, archive, tmp_path, capsys, words, said):
    site.faults["GET /10025/data/raw/gain.mrc/../"] = [failing(400)]
    words = [word.format(archive=archive) for word in words]
    assert run(["fetch", *words, "-o", str(tmp_path / "out")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("deice: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_said_before_any_work(site, archive, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert run(["fetch", "EMPIAR-10025", "-o", str(tmp_path / "out" / "below")]) == 2
    assert "no files can be written there" in capsys.readouterr().err
    assert not gets(site)


Usage = namedtuple("Usage", "total used free")


def test_a_disk_too_small_is_said_before_any_work(site, archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6, 600_000))
    assert run(["fetch", "EMPIAR-10025", "-o", str(tmp_path / "out")]) == 2
    assert "708 kB to come, 600 kB free" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_meanwhile_stops_the_rest_and_keeps_the_part(site, archive, tmp_path, monkeypatch):
    frees = iter([10**9, 10**9])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, next(frees, 1000)))
    outcomes = fetched(tmp_path, parallel=1)
    assert outcomes.pop("10025.xml") == ("written", "")
    assert "to come, 1 kB free" in outcomes.pop("data/raw/a movie.mrc")[1]
    assert {reason for _, reason in outcomes.values()} == {"not finished: the disk is full"}
    monkeypatch.undo()
    monkeypatch.setenv("DEICE_EMPIAR", archive)
    assert states(fetched(tmp_path)) == {"written", "skipped"}


def test_a_disk_that_fills_within_a_file_keeps_what_is_there(site, archive, tmp_path, monkeypatch):
    class Disk(FileIO):
        def write(self, block):
            if self.tell() >= 300_000:
                raise OSError(28, "No space left on device")
            return super().write(bytes(block[: 300_000 - self.tell()]))

    monkeypatch.setattr("deice.fetch.transfer.FileIO", Disk)
    outcomes = fetched(tmp_path, parallel=1)
    assert "the disk is full" in outcomes["data/raw/a movie.mrc"][1]
    assert part_of(movie_in(tmp_path)).read_bytes() == MOVIE[:300_000]
    monkeypatch.undo()
    monkeypatch.setenv("DEICE_EMPIAR", archive)
    assert states(fetched(tmp_path)) == {"written", "skipped"}
    assert gets(site)[-1] == "bytes=300000-"


# listings

PRE = """<html><head><title>Index of /x</title></head><body><h1>Index of /x</h1>
<pre><img src="/icons/blank.gif" alt="Icon "> <a href="?C=N;O=D">Name</a>  <a href="?C=M;O=A">Last modified</a><hr>
<a href="/"><img src="/icons/back.gif"></a> <a href="/">Parent Directory</a>                             -
<a href="sub/"><img src="/icons/folder.gif"></a> <a href="sub/">sub/</a>          2014-09-30 10:12    -
<a href="one.mrc"><img src="/icons/x.gif"></a> <a href="one.mrc">one.mrc</a>      2014-09-30 10:12  217M  gain
<hr></pre></body></html>"""
NGINX = """<html><head><title>Index of /x/</title></head><body><h1>Index of /x/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                                               30-Sep-2014 10:12                   -
<a href="one.mrc">one.mrc</a>                                            30-Sep-2014 10:12           227825920
</pre><hr></body></html>"""
PYTHON = """<!DOCTYPE HTML><html><body><h1>Directory listing for /x/</h1><hr><ul>
<li><a href="sub/">sub/</a></li><li><a href="one.mrc">one.mrc</a></li></ul><hr></body></html>"""
LINKS = """<html><body><a href="http://elsewhere.test/x/a">a</a><a href="/y/b">b</a><a href="deep/er.mrc">c</a>
<a href="..%2fup.mrc">d</a><a href="%2e%2e/">e</a><a href="#f">f</a><a>g</a><a href="mailto:h@i">h</a>
<a href="http://server.test/x/sub/">sub</a> <A HREF='one.mrc#top'>one.mrc</A> 2014-09-30 10:12:33 217.3M
</body></html>"""


@pytest.mark.parametrize(
    ("page", "least", "most"),
    [(PRE, 216_000_000, 218 << 20), (NGINX, 227_825_920, 227_825_920), (PYTHON, None, None),
     (LINKS, 217_200_000, int(217.4 * 2**20))],
    ids=["apache", "nginx", "python", "links"],
)  # fmt: skip
def test_listings_of_several_servers_are_read(page, least, most):
    found = {name: (address, size) for name, address, size in children(page, "http://server.test/x/")}
    assert set(found) == {"sub", "one.mrc"}
    assert found["sub"][0] == "http://server.test/x/sub/"
    address, size = found["one.mrc"]
    assert address == "http://server.test/x/one.mrc"
    assert size == (None if least is None else (pytest.approx(least, abs=1), pytest.approx(most, abs=1)))


@pytest.mark.parametrize("size", [0, 1, 972, 973, 1024, 9_999, 10_189, 10_190, 700_000, 227_825_920, 2_164_285_984])
def test_a_rounded_size_holds_the_true_one(size):
    least, most = listed_size(f" 2014-09-30 10:12   {shown_size(size)} ")
    assert least <= size <= most
    assert most - least <= 0.3 * size


def test_a_listing_that_is_cut_short_is_asked_for_again_and_never_believed(site, archive, tmp_path, capsys):
    def half(handler):
        return handler.plain(200, site.listing("/10025/data/raw/").encode()[:-200], {"Content-Type": "text/html"})

    def broken(handler):
        body = site.listing("/10025/data/raw/").encode()
        return handler.plain(200, body[:-200], {"Content-Type": "text/html", "Content-Length": str(len(body))})

    site.faults["GET /10025/data/raw/"] = [half, broken]
    assert states(fetched(tmp_path)) == {"written"}
    assert movie_in(tmp_path).exists()
    for fault in (half, broken):
        site.faults["GET /10025/data/raw/"] = [fault] * 9
        with pytest.raises(UserError, match="listing"):
            list(list_entry(f"{archive}/10025", QUICK))


def test_folders_that_lead_into_themselves_come_to_an_end(site, archive):
    site.files = {"/loop/x.mrc": b"x"}

    def loop(handler):
        return handler.plain(200, b'<html><a href="again/">again</a></html>', {"Content-Type": "text/html"})

    for depth in range(40):
        site.faults["GET /loop/" + "again/" * depth] = [loop]
    with pytest.raises(UserError, match="without end"):
        list(list_entry(f"{archive}/loop", QUICK))


@pytest.mark.parametrize("kind", ["video/mp4", "application/json"])
def test_what_is_no_listing_is_refused(site, archive, kind):
    site.faults["GET /10025/"] = [failing(200, **{"Content-Type": kind})]
    with pytest.raises(UserError, match=rf"found {kind}; expected the listing"):
        list(list_entry(f"{archive}/10025", QUICK))
    site.faults["GET /10025/"] = [lambda handler: handler.plain(200, b"hello", {"Content-Type": "text/html"})]
    with pytest.raises(UserError, match="lists no files"):
        list(list_entry(f"{archive}/10025", QUICK))


def test_sizes_are_read_and_said_in_decimal_units():
    assert parse_bytes("41GB") == 41 * 10**9
    assert parse_bytes("1.5 GiB") == 3 << 29
    assert [say_bytes(size) for size in (0, 999, 1000, 44_650_000_000, 10**13)] == [
        "0 bytes", "999 bytes", "1 kB", "44.6 GB", "10 TB"]  # fmt: skip
    with pytest.raises(RecipeFault, match="limit 'many'; expected a number with a unit"):
        parse_bytes("many", "limit")


# the guide


@pytest.fixture
def stand_ins(site, archive, tmp_path, monkeypatch):
    """Small simulated movies, their gain and averages, under the names of EMPIAR-10025."""
    deice.simulate("movies", 3, tmp_path / "world", size=(96, 96), frames=4, pixel_size=0.6575)
    deice.split(sorted((tmp_path / "world/movies").iterdir()), tmp_path / "split", gain=tmp_path / "world/gain.mrc")
    gain = np.asarray(deice.read(tmp_path / "world/gain.mrc"))
    deice.write(tmp_path / "flipped.mrc", gain[::-1].copy())
    raw, averaged = "/10025/data/14sep05c_raw_196", "/10025/data/14sep05c_averaged_196"
    site.files = {"/10025/10025.xml": b"<entry/>"}
    for number in range(3):
        name, made = f"14sep05c_00024sq_{number}", f"movie_{number + 1:04}.mrc"
        site.files[f"{averaged}/{name}_c.mrc"] = (tmp_path / "split" / made).read_bytes()
        site.files[movie := f"{raw}/{name}.frames.mrc"] = (tmp_path / "world/movies" / made).read_bytes()
    site.files[f"{raw}/norm-amibox05-0.mrc"] = (tmp_path / "flipped.mrc").read_bytes()
    site.faults[f"GET {movie}"] = [lambda handler: handler.give(site.files[movie], cut=9000)]
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


def toy(line: str) -> list[str]:
    """The words of a command after "deice"; training is made short and small."""
    words = shlex.split(line)[1:]
    if words[0] == "train":
        given = {"--net": "unet:size=4,depth=2"} | dict(zip(words[2::2], words[3::2]))
        given |= {"--steps": "3", "--patch": "16", "--batch": "2"}
        kept = [(flag, value) for flag, value in given.items() if flag not in ("--minutes", "--epochs")]
        words = words[:2] + [word for pair in kept for word in pair]
    return words


def test_the_guide_from_download_to_report_runs(stand_ins, capsys):
    lines = commands("docs/empiar-10025.md", "<!-- executed -->\n```bash")
    assert len(lines) == (ROOT / "docs/empiar-10025.md").read_text().count("\ndeice ")
    for line in lines:
        assert run(toy(line)) == 0, f"{line}\n{capsys.readouterr().err}"
    for folder in ("denoised", "denoised_cnn", "gaussian", "denoised_n2v"):
        assert len(list((stand_ins / folder).glob("*.mrc"))) == 3
    assert deice.read(stand_ins / "denoised/14sep05c_00024sq_0.frames.mrc").pixel_size == pytest.approx(0.6575)
    assert (stand_ins / "report.html").stat().st_size > 10_000
