"""The `copywatch` command: what one image, page or sites file gives, without any server.

Results go to standard output, as a table or with `--json` as JSON; log lines and errors go to standard error. The exit
status is 0 when everything could be done, 1 when something could not, 2 for a wrong call.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from copywatch.errors import CopywatchError, CrawlFailed, UnusableImage
from copywatch.logs import log_to_stderr, table
from copywatch.rule import Rule
from copywatch.settings import settings

if TYPE_CHECKING:
    from copywatch.verification.verdict import Verification

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

_ALGORITHMS = "mao, chamoso, dhash, ahash, phash or pdq"

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


@sites_app.command("status")
def sites_status(
    sites: Annotated[Path | None, typer.Option(help="Sites file; default: the one of the settings.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say of each site when it was crawled, when it will be, and whether it is left alone after failures."""
    from copywatch.ledger.crawls import site_states
    from copywatch.ledger.database import session
    from copywatch.sites import load_sites

    try:
        watched = load_sites(sites or settings().sites_file).sites
        with session() as opened:
            states = site_states(opened, watched)
    except CopywatchError as error:
        _fail(error)
    rows = [{**asdict(state), "every": str(state.every), "interval": str(state.interval)} for state in states]
    shown = ("name", "source", "standing", "last_started_at", "new_images_last", "interval", "next_due_at")
    brief = [{name: row[name] for name in (*shown, "blocked_why")} for row in rows]
    _print(rows if as_json else brief, as_json)


@app.command()
def crawl(
    site: Annotated[str, typer.Argument(help="A site's name in the sites file, or an address.")],
    sites: Annotated[Path | None, typer.Option(help="Sites file; default: the one of the settings.")] = None,
    landing: Annotated[Path | None, typer.Option(help="Keep the landing shards in this folder.")] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which the crawl remembers what it knows of the site. Without it: what the ledger knows of "
            "a named site, which is only read; of an address nothing is known."
        ),
    ] = None,
    internal: Annotated[
        bool, typer.Option("--internal", help="The site is in your own network: loopback and private addresses.")
    ] = False,
    source: Annotated[
        str | None, typer.Option(help="Kind of source, if it is not to be detected: wordpress, feed, gallery ...")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what kind of source it is and which images are new; fetch none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Crawl a site by hand and say which images are new on it. Nothing is matched or alerted."""
    from copywatch.crawl_by_hand import crawl_by_hand

    log_to_stderr(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="copywatch-") as scratch:
        try:
            done = crawl_by_hand(
                site,
                config=settings(),
                sites_file=sites,
                landing=landing,
                state=state,
                scratch=Path(scratch),
                internal=internal,
                source=source,
                dry_run=dry_run,
            )
        except CopywatchError as error:
            _fail(error)
    if as_json:
        _print({"site": done.site, "stats": done.stats, "items": done.items, "error": done.error}, as_json)
    else:
        shown = ("image_url", "page_url", "uploader", "uploaded_at", "size", "outcome")
        _print([{name: item[name] for name in shown} for item in done.items], as_json)
        typer.echo(table([done.stats], title=""))
    if done.error:
        _fail(CrawlFailed(done.site, done.error))


@app.command()
def fingerprint(
    files: Annotated[list[Path], typer.Argument(help="Image files.", exists=True, dir_okay=False, readable=True)],
    algorithm: Annotated[str, typer.Option(help=f"{_ALGORITHMS}.")] = "mao",
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
    algorithm: Annotated[str, typer.Option(help=f"{_ALGORITHMS}.")] = "mao",
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Th; default: the one in force.")] = None,
    explain: Annotated[
        Path | None,
        typer.Option(help="Draw how the two lie over each other into this file, PNG or JPEG.", dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare an image with what may be a copy of it.

    It prints how far they are from each other, 0 (alike) to 1, and T:
    0 identical: alerted at once;
    1 similar, within the threshold Th: a person decides;
    2 different.

    Beside it stands the verification, which lays the two over each other:
    certain, doubtful or different, and the probability of a copy.
    """
    from copywatch.fingerprint import algorithm_named, identity
    from copywatch.matching.compare import compared, verified

    config = settings()
    files = first.read_bytes(), second.read_bytes()
    try:
        name = identity(algorithm_named(algorithm))
        found = compared(*files, config, algorithm=algorithm, threshold=threshold)
        verification = verified(*files, config)
        if explain:
            drawn = _explain(*files, verification, explain)
    except CopywatchError as error:
        _fail(error)
    rescored = found.rule is Rule.RESCORED
    # As the tables have it for programs; for people what is no distance has another name.
    names = ("score", "distance of the paper") if rescored and not as_json else ("distance", "plain_distance")
    row: dict[str, Any] = {
        names[0]: round(found.distance, 6),
        "T": int(found.verdict),
        "verdict": found.verdict.name.lower(),
        "threshold": round(found.threshold, 6),
        "algorithm": name,
    }
    if rescored or as_json:
        row |= {"rule": found.rule, "view": found.view, names[1]: round(found.plain_distance, 6)}
    if as_json:
        _print(row | {"verification": _verification_values(verification)}, as_json)
    else:
        _print(row, as_json)
        typer.echo(f"\n{_verification_text(verification)}")
    if explain:
        typer.echo(drawn, err=True)


def _verification_values(verification: Verification) -> dict[str, Any]:
    """For programs: names as in the table `matches`."""
    measures = verification.measures
    return {
        "verification": verification.judgement,
        "probability": verification.probability,
        "unverified": verification.reason or None,
        "edit": verification.edit or None,
        "mirrored": verification.mirrored,
        "alignment": verification.alignment,
        "measures": asdict(measures) if measures else None,
    }


def _verification_text(verification: Verification) -> str:
    """For people."""
    from copywatch.alerts.wording import percent

    if verification.judgement is None:
        return f"not verified: {verification.reason}. Such images are covered by the fingerprint alone."
    row: dict[str, Any] = {
        "verification": verification.judgement.value,
        "probability": percent(verification.probability) if verification.probability is not None else "-",
        "edit": verification.edit or "-",
    }
    if verification.measures is None:
        return f"{table([row])}\n\nnothing of the one was found in the other"
    values = asdict(verification.measures).items()
    measures = [{"measure": name.replace("_", " "), "value": f"{float(value):.4g}"} for name, value in values]
    return f"{table([row])}\n\n{table(measures)}"


def _explain(original: bytes, sighting: bytes, verification: Verification, path: Path) -> str:
    """Draw the explanation into a file; says what was done.

    Raises:
        CopywatchError: the file cannot be written.
    """
    from copywatch.decode import decode
    from copywatch.verification.explanation import explained

    nothing = "nothing to draw: there is no way to lay the one over the other"
    if verification.alignment is None:
        return nothing
    config = settings()
    one, other = (
        decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes).rgb
        for data in (original, sighting)
    )
    picture = explained(one, other, verification.alignment)
    if picture is None:
        return nothing
    try:
        picture.save(path)
    except (OSError, ValueError) as error:
        raise CopywatchError(f"{path}: {error}; name a .png or .jpg file in a folder that is there") from error
    return f"drawn: {path}"


@app.command()
def check(
    file: ImageFile,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many protected images to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Name the protected images nearest to a file, with distance (by the rule in force) and verdict."""
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
            "rule": one.rule,
            "plain_distance": round(one.plain_distance, 6),
            "view": one.view,
        }
        for one in neighbours
    ]
    _print(rows, as_json)


@app.command()
def evaluate(
    protected: Annotated[Path, typer.Option(help="Folder of the originals.", exists=True, file_okay=False)],
    detected: Annotated[
        Path, typer.Option(help="Folder of what is searched for copies.", exists=True, file_okay=False)
    ],
    truth: Annotated[Path, typer.Option(help="CSV of what is true, see above.", exists=True, dir_okay=False)],
    algorithm: Annotated[str | None, typer.Option(help=f"{_ALGORITHMS}; default: as set.")] = None,
    rule: Annotated[Rule | None, typer.Option(help="How mao's distances are measured; default: as set.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Th; default: the one in force.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Take Th from these photos, at --rate.")] = False,
    rate: Annotated[
        float, typer.Option(min=1e-12, max=0.5, help="With --calibrate: share of different pairs within Th.")
    ] = 1e-6,
    misses: Annotated[
        Path | None, typer.Option(help="Write what was judged wrongly into this folder, as pictures and a table.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="That read images; default: one a core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure on your own photos how many copies are found, and how many other images are taken for copies.

    The CSV has the columns detected, protected and edit. Names are relative
    to their folders. An image that is no copy has an empty protected. One
    with several right originals (the same photo twice, a collage) has several
    rows, and any of them will do. The edit may be left out. Files of the
    detected folder that the CSV does not name are left out.

    copies: images that are copies.
    found: of these, people are told of a right one: by its fingerprint
    within Th, or by local features, unless verification refuses it.
    certain: of these, identical ones and those that verification is certain
    of, which nobody need look at.
    rank1: the nearest original is a right one, within Th or not.
    """
    from copywatch.evaluation.evaluate import evaluate as measured
    from copywatch.evaluation.report import report
    from copywatch.evaluation.sheet import claim_folder, write_misses

    if calibrate and threshold is not None:
        raise typer.BadParameter("--calibrate measures the threshold that --threshold gives: name one of them")
    log_to_stderr()
    config = settings()
    try:
        if misses:
            claim_folder(misses, apart_from=(protected, detected))
        found = measured(
            protected,
            detected,
            truth,
            config=config,
            algorithm=algorithm,
            rule=rule,
            threshold=threshold,
            rate=rate if calibrate else None,
            processes=processes,
        )
        if misses:
            pages = write_misses(found, misses, protected=protected, detected=detected, config=config)
            typer.echo(f"{len(found.cases)} pairs judged wrongly, on {pages} pages: {misses}", err=True)
    except CopywatchError as error:
        _fail(error)
    if as_json:
        _print(found.as_json(), as_json)
    else:
        typer.echo(report(found))


@lake_app.command("create")
def create_lake() -> None:
    """Create the Delta tables that are missing."""
    from copywatch.lake.tables import create_tables

    create_tables(settings().warehouse)
    typer.echo(f"the tables are in {settings().warehouse}")


@lake_app.command("add-features")
def add_features() -> None:
    """Make the local features of images that were protected before there were any.

    Needed once, after an upgrade. Run it again if it was interrupted.
    """
    from copywatch.images import image_store
    from copywatch.lake.older_images import add_features as added_features
    from copywatch.lake.tables import create_tables

    log_to_stderr()
    create_tables(settings().warehouse)
    added = added_features(settings(), image_store())
    typer.echo(f"local features of {added.images} images were added; {added.unreadable} originals cannot be read")


def main() -> None:
    """Entry point of the `copywatch` command."""
    try:
        app()
    except CopywatchError as error:
        typer.echo(f"copywatch: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
