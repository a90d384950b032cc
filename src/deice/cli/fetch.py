"""deice fetch: a data set of EMPIAR to disk."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def fetch(
    entry: str,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    max_size: str | None = None,
    parallel: int = 4,
    archive: Annotated[str | None, Parameter(name="--from")] = None,
    overwrite: bool = False,
    dry_run: bool = False,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """A data set of EMPIAR, or any folder that a web server lists, to disk; cut short, it goes on where it was.

    Example: deice fetch EMPIAR-10025 -o t20s --only 14sep05c_averaged_196 --dry-run

    Writes DIR/PATH for each file, with the archive's own folders. A file has its name when it is complete and as long
    as the server says; until then it is DIR/.NAME.part. Run it again: what is complete is skipped, the rest goes on.
    Proxies are taken from HTTPS_PROXY.

    Parameters
    ----------
    entry
        EMPIAR-NNNNN, or the http(s) address of a folder.
    out
        Folder of the files.
    only
        Files or folders of these names; patterns with * ? [abc], in quotes.
    max_size
        Whole files in the order of the listing, up to so many bytes in all: 41GB (decimal) or 41GiB.
    parallel
        Files at a time, each with a connection of its own.
    archive
        A mirror's folder of entries; DEICE_EMPIAR in the environment says the same.
    overwrite
        Fetch files again that are there with another size.
    dry_run
        List the files with their sizes, and fetch nothing.
    json
        Write what became of each file to this file; - for stdout.
    """
    from dataclasses import asdict
    from time import monotonic

    from deice.cli.figures import write_json
    from deice.cli.options import listen
    from deice.cli.progress import progress, say
    from deice.errors import BatchFailure, UserError
    from deice.fetch import address_of, bring, choose, list_entry, look_at_all, make_plan
    from deice.sizes import parse_bytes, say_bytes

    listen()
    limit = parse_bytes(max_size, "--max-size") if max_size is not None else None
    listed = []
    with progress("listing") as bar:
        for file in list_entry(address_of(entry, archive)):
            listed.append(file)
            bar.advance()
    listed, looked = choose(listed, only or []), []
    with progress("sizes", len(listed)) as bar:
        for news in look_at_all(listed, parallel):
            looked.append(news)
            bar.advance()
    plan = make_plan(looked, listed, out, limit, overwrite)
    say(f"{len(plan.wanted)} files to fetch, {say_bytes(plan.missing)} to come, {say_bytes(plan.free)} free")
    if skipped := plan.those("skipped"):
        say(f"{len(skipped)} complete before, skipped")
    if beyond := plan.those("left out"):
        size = say_bytes(sum(file.bytes or 0 for file in beyond))
        say(f"left out by --max-size {max_size}: {len(beyond)} files, {size}, from {beyond[0].path} on")
    if dry_run and json != "-":
        for file in plan.outcomes.values():
            print(f"{say_bytes(file.bytes or 0):>10}  {file.state:8}  {file.path}")
    elif plan.wanted and not dry_run:
        with progress("fetching", plan.missing / 1e9, "GB") as bar:
            for news in bring(plan, parallel):
                rate = 1000 * bar.done / (monotonic() - bar.started)
                bar.advance(news.moved / 1e9, **{"MB/s": rate})
    write_json([asdict(file) for file in plan.outcomes.values()], json)
    failures = [(file.path, file.reason) for file in plan.those("failed")]
    if failures and len(listed) == 1:
        raise UserError(failures[0][1])
    if failures:
        raise BatchFailure(failures, len(plan.those("written") + plan.those("skipped") + plan.those("to fetch")))
