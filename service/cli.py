"""The server's commands of ``tunesmith``."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.errors import ConflictError, UnavailableError
from tuner import logs

if TYPE_CHECKING:
    from service.settings import Settings

# What the commands need is imported when one runs, so that `tunesmith --help` stays quick; that it
# is there is asked now, so that a worker's installation can say what it lacks.
for _package in (
    *("alembic", "fastapi", "httptools", "pydantic_settings", "sqlalchemy", "uvicorn", "uvloop"),
):
    if find_spec(_package) is None:
        raise ModuleNotFoundError(f"the server needs {_package}", name=_package)

_DATABASE_URL = click.option(
    "--database-url",
    metavar="URL",
    help="sqlite:///FILE or postgresql://USER@HOST/NAME. [default: SQLite in the data directory]",
)
_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the embedded database. [default: $XDG_DATA_HOME/tunesmith]",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    cli.add_command(serve)
    cli.add_command(database)


@click.command()
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one. [default: 8700]"
)
@click.option(
    "--share-port/--own-port",
    default=None,
    help="Let several API processes of this machine listen on one port. [default: --own-port]",
)
@_DATABASE_URL
@_DATA_DIR
@click.option("--with-worker", is_flag=True, help="Measure on this machine too.")
@click.option(
    "--role",
    type=click.Choice(["all", "api", "tuner"]),
    help="Answer requests (api), drive jobs (tuner), or both. [default: all]",
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    help="Log lines for people, or one JSON object a line. [default: text]",
)
def serve(with_worker: bool, **options: Any) -> None:
    """Run the server: the REST API and the orchestrator of jobs.

    Every option can also be set as TUNESMITH_<OPTION> in the environment.
    """
    settings = _settings(**options)
    if with_worker and settings.role == "tuner":
        raise click.UsageError("--with-worker needs the API: a tuner has none")
    logs.configure(settings.log_level, settings.log_format)

    from service import server

    with _plain_errors():
        server.serve(settings, with_worker=with_worker)


@click.group(name="db")
def database() -> None:
    """Upgrade or check the results database."""


@database.command()
@_DATABASE_URL
@_DATA_DIR
@_JSON
def upgrade(as_json: bool, **options: Any) -> None:
    """Bring the schema of the database up to date; make it where there is none."""
    settings = _settings(**options)

    from service.db import migrate
    from service.db.lock import exclusive

    url = settings.resolved_database_url
    with _plain_errors():
        if not settings.database_url:
            settings.data_dir.expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
        # A running server owns its SQLite file.
        with exclusive(url):
            migrate.upgrade(url)
    _print(as_json, {"upgraded": _shown(url)}, f"{_shown(url)} is up to date")


@database.command()
@_DATABASE_URL
@_DATA_DIR
@_JSON
def check(as_json: bool, **options: Any) -> None:
    """Say whether the schema of the database is as this version needs it."""
    settings = _settings(**options)

    from sqlalchemy import make_url

    from service.db import migrate
    from service.db.engine import parse_url

    url = settings.resolved_database_url
    with _plain_errors():
        parsed = parse_url(url)
        problems: tuple[str, ...]
        if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
            # Looking would make it.
            problems = (f"there is no database {make_url(url).database}",)
        else:
            problems = migrate.check(url)
    found = {"database": _shown(url), "ok": not problems, "problems": list(problems)}
    if problems and not as_json:
        raise ConflictError("; ".join(problems) + "; run `tunesmith db upgrade`")
    _print(as_json, found, f"{_shown(url)} is as this version needs it")
    if problems:
        raise SystemExit(1)


def _settings(**options: Any) -> "Settings":
    from pydantic import ValidationError

    from service.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"])
        where = f"TUNESMITH_{name.upper()}: " if name else ""
        raise click.UsageError(f"{where}{first['msg']}") from None


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Say in words what the operating system refuses; the command line shows the tree's errors."""
    try:
        yield
    except OSError as error:
        what = error.filename or "the system"
        raise UnavailableError(f"{what}: {error.strerror or error}") from None


def _shown(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)


def _print(as_json: bool, value: dict[str, Any], line: str) -> None:
    from tuner.cli.output import print_json

    if as_json:
        print_json(value)
    else:
        click.echo(line)
