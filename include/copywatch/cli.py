"""The `copywatch` command: what one image, page or sites file gives, without any server.

Results go to standard output, as a table or with `--json` as JSON; log lines and errors go to standard error. The exit
status is 0 when everything could be done, 1 when something could not, 2 for a wrong call.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from copywatch.errors import CopywatchError, CrawlFailed, UnusableImage
from copywatch.logs import log_to_stderr, table
from copywatch.settings import settings

app = typer.Typer(
    help="Find copies of images on web sites.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
sites_app = typer.Typer(help="The sites file.", no_args_is_help=True)
lake_app = typer.Typer(help="The Delta tables.", no_args_is_help=True)
app.add_typer(sites_app, name="sites")
app.add_typer(lake_app, name="lake")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ImageFile = Annotated[Path, typer.Argument(help="An image file.", exists=True, dir_okay=False, readable=True)]


def _print(result: Mapping[str, Any] | Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=1, default=str))
    else:
        typer.echo(table([result] if isinstance(result, Mapping) else result))


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"copywatch: {error}", err=True)
    raise typer.Exit(1)


@sites_app.command("check")
def check_sites(
    file: Annotated[Path | None, typer.Argument(help="Sites file; default: the one of the settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a sites file; a mistake is told with its line."""
    from copywatch.sites import load_sites

    path = file or settings().sites_file
    try:
        sites = load_sites(path)
    except CopywatchError as error:
        if as_json:
            typer.echo(json.dumps({"file": str(path), "valid": False, "errors": str(error).splitlines()}, indent=1))
            raise typer.Exit(1) from None
        _fail(error)
    rows = [
        {"site": site.name, "kind": site.kind, "every": str(site.every), "enabled": site.enabled, "start": site.start}
        for site in sites.sites
    ]
    _print({"file": str(path), "valid": True, "sites": rows} if as_json else rows, as_json)


@app.command()
def crawl(
    site: Annotated[str, typer.Argument(help="A site's name in the sites file, or the address of a page.")],
    sites: Annotated[Path | None, typer.Option(help="Sites file; default: the one of the settings.")] = None,
    landing: Annotated[Path | None, typer.Option(help="Keep the landing shards in this folder.")] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let an address of a private network be crawled.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Crawl a site once and say which images are on it. Nothing is remembered, matched or alerted."""
    from copywatch.crawl import crawl as crawl_site
    from copywatch.sites import load_sites, site_of_address

    log_to_stderr(logging.WARNING)
    try:
        file = sites or settings().sites_file
        chosen = site_of_address(site) if "://" in site else load_sites(file).named([site])[0]
        if allow_private:
            chosen = chosen.model_copy(update={"allow_private_addresses": True})
    except CopywatchError as error:
        _fail(error)
    with tempfile.TemporaryDirectory(prefix="copywatch-") as scratch:
        folder, run, failure, stats = landing or Path(scratch), "by-hand", None, None
        try:
            stats = crawl_site(chosen, run=run, landing=folder, known_hashes=[], settings=settings())
        except CrawlFailed as error:
            failure = error
        except CopywatchError as error:
            _fail(error)
        images = _landed(folder, run)
    counts = stats.model_dump(mode="json", exclude={"landing", "run"}) if stats else {"error": str(failure)}
    if as_json:
        _print({"site": chosen.name, "images": images, "crawl": counts}, as_json)
    else:
        shown = ("image_url", "page_url", "uploader", "uploaded_at", "size", "outcome")
        _print([{name: image[name] for name in shown} for image in images], as_json)
        typer.echo(table([counts], title=""))
    if failure:
        _fail(failure)


def _landed(folder: Path, run: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    from copywatch.lake.landing import shards

    columns = ["image_url", "page_url", "uploader", "uploaded_at", "size", "sha256", "http_status", "reason", "detail"]
    rows = [row for shard in shards(folder, run) for row in pq.read_table(shard, columns=columns).to_pylist()]
    for row in rows:
        detail = f" ({row['detail']})" if row["detail"] else ""
        row["outcome"] = f"{row['reason']}{detail}" if row["reason"] else "fetched"
    return rows


@app.command()
def fingerprint(
    files: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False, readable=True)],
    algorithm: Annotated[str, typer.Option(help="mao, dhash, ahash, phash or pdq.")] = "mao",
    as_json: AsJson = False,
) -> None:
    """Print the fingerprint of each file, hexadecimal; a file that gives none is told with its reason."""
    from copywatch.fingerprint import algorithm_named, fingerprint_of, identity

    try:
        name = identity(algorithm_named(algorithm))
    except CopywatchError as error:
        _fail(error)
    rows = []
    for file in files:
        row: dict[str, Any] = {"file": str(file), "algorithm": name, "fingerprint": None, "reason": None}
        try:
            row["fingerprint"] = fingerprint_of(file.read_bytes(), algorithm).hex()
        except UnusableImage as error:
            row["reason"] = str(error)
        rows.append(row)
    if as_json:
        _print(rows, as_json)
    else:
        for row in rows:
            typer.echo(f"{row['fingerprint'] or row['reason']}  {row['file']}")
    if any(row["reason"] for row in rows):
        raise typer.Exit(1)


@app.command()
def compare(
    first: ImageFile,
    second: ImageFile,
    algorithm: Annotated[str, typer.Option(help="mao, dhash, ahash, phash or pdq.")] = "mao",
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Th; default: as set.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two files: their distance, 0 to 1, and the verdict T (0 identical, 1 similar, 2 different)."""
    from copywatch.fingerprint import algorithm_named, fingerprint_of, identity
    from copywatch.matching import verdict

    try:
        chosen = algorithm_named(algorithm)
        codes = [chosen.decode(fingerprint_of(file.read_bytes(), algorithm)) for file in (first, second)]
    except CopywatchError as error:
        _fail(error)
    config = settings()
    # The settings' threshold belongs to the settings' algorithm; another's distances are of another kind.
    as_set = config.threshold if algorithm == config.algorithm else None
    limit = next(one for one in (threshold, as_set, chosen.threshold) if one is not None)
    distance = chosen.distance(*codes)
    judged = verdict(distance, limit, config.identical_bound)
    _print(
        {
            "distance": round(distance, 6),
            "T": int(judged),
            "verdict": judged.name.lower(),
            "threshold": round(limit, 6),
            "algorithm": identity(chosen),
        },
        as_json,
    )


@app.command()
def check(
    file: ImageFile,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many protected images to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Name the protected images nearest to a file, with distance and verdict."""
    from copywatch.matching.check import check as nearest_protected

    config = settings()
    try:
        neighbours = nearest_protected(file.read_bytes(), warehouse=config.warehouse, config=config, limit=limit)
    except CopywatchError as error:
        _fail(error)
    rows = [
        {
            "protected_id": one.protected_id,
            "owner": one.owner,
            "tag": one.tag,
            "distance": round(one.distance, 6),
            "T": int(one.verdict),
            "verdict": one.verdict.name.lower(),
            "threshold": round(one.threshold, 6),
        }
        for one in neighbours
    ]
    _print(rows, as_json)


@lake_app.command("create")
def create_lake() -> None:
    """Create the Delta tables that are missing."""
    from copywatch.lake.tables import create_tables

    create_tables(settings().warehouse)
    typer.echo(f"the tables are in {settings().warehouse}")


def main() -> None:
    """Entry point of the `copywatch` command."""
    try:
        app()
    except CopywatchError as error:
        typer.echo(f"copywatch: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
