"""The server's settings: the one place where its environment is read."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url


class Role(StrEnum):
    """What a server process does."""

    ALL = "all"
    API = "api"
    TUNER = "tuner"


def default_data_dir() -> Path:
    """Return where data lie when nothing is said, after the XDG base directory specification."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "tunesmith"


class Settings(BaseSettings):
    """Settings of a server; each is also the environment variable ``TUNESMITH_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="TUNESMITH_", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Directory of the embedded database and the server's other files.",
    )
    database_url: str = Field(
        default="",
        description="SQLAlchemy URL of the results database; empty means SQLite in the data "
        "directory.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; anything but loopback needs a token file.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8700, description="TCP port to listen on; 0 takes a free one."
    )
    share_port: bool = Field(
        default=False,
        description="Let several API processes of this machine listen on one port; the system "
        "divides the connections among them. Needs PostgreSQL.",
    )
    token_file: Path | None = Field(
        default=None,
        description="File with one bearer token a line, each followed by its scopes (submit, read, "
        "measure, admin) or by nothing for admin. Without it, loopback needs no token.",
    )
    role: Role = Field(
        default=Role.ALL,
        description="What this process does: the API, the orchestrator of jobs (tuner), or all.",
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=32 * 2**20, description="Largest accepted request body, in bytes."
    )
    max_active_jobs: Annotated[int, Field(ge=1)] = Field(
        default=1000, description="How many jobs may be queued or running; more are told to wait."
    )
    lease_ttl_secs: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="Seconds after which the lease of a silent worker ends."
    )
    heartbeat_secs: Annotated[float, Field(gt=0, le=1200)] = Field(
        default=10.0, description="Seconds between the heartbeats that workers are asked for."
    )
    poll_secs: Annotated[float, Field(gt=0, le=60)] = Field(
        default=1.0,
        description="Seconds between looks at the database for what no notification told of.",
    )
    search_processes: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="How many searches may run at once, on this machine or on the Dask cluster.",
    )
    search_while_measuring: bool | None = Field(
        default=None,
        description="Search for some jobs while others are measured. Otherwise jobs take turns, so "
        "that nothing disturbs what is timed on this machine. Default: only on a Dask cluster, or "
        "with PostgreSQL and without a worker of the server's own.",
    )
    learn: bool = Field(
        default=True,
        description="Train the cost model as records arrive, and use what is better. It never does "
        "so while jobs are active on a machine that also measures.",
    )
    dask_scheduler: str = Field(
        default="",
        description="Address of a Dask cluster that searches and trains the cost model, as in "
        "tcp://HOST:8786; empty means processes of this server.",
    )
    check_secs: Annotated[float, Field(ge=1, le=7 * 86400)] = Field(
        default=3600.0, description="Seconds between runs of the reference kernel on a worker."
    )
    strict_checks: bool | None = Field(
        default=None,
        description="Quarantine workers whose reference kernel drifts by 5 % or scatters by 3 %. A "
        "machine that also runs a server is never so quiet. Default: only with PostgreSQL.",
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Least level of log lines on standard error: DEBUG, INFO, WARNING or ERROR.",
    )

    mlflow_uri: str | None = Field(
        default=None,
        pattern="^https?://.+",
        description="An MLflow tracking server that gets a run for each job that ends. Nothing "
        "waits for it, and nothing fails with it.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How log lines are written: text for people, or json, one object a line with "
        "the ids of the job, lease and worker.",
    )

    @model_validator(mode="after")
    def _heartbeats_keep_leases(self) -> Self:
        if self.heartbeat_secs * 2 > self.lease_ttl_secs:
            raise ValueError("heartbeat_secs must be at most half of lease_ttl_secs")
        return self

    @model_validator(mode="after")
    def _shared_ports_share_a_database(self) -> Self:
        if self.share_port and self.is_embedded:
            raise ValueError("share_port needs PostgreSQL: an embedded database has one server")
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether one process has the database to itself, on a machine that does everything."""
        return make_url(self.resolved_database_url).get_backend_name() == "sqlite"

    @property
    def checks_are_strict(self) -> bool:
        """`strict_checks` with the default filled in."""
        return not self.is_embedded if self.strict_checks is None else self.strict_checks

    @property
    def resolved_database_url(self) -> str:
        """The database URL with the default filled in."""
        if self.database_url:
            return self.database_url
        path = self.data_dir.expanduser() / "tunesmith.db"
        # Not put together by hand: a path may have characters that mean something in a URL.
        return URL.create("sqlite", database=str(path)).render_as_string()
