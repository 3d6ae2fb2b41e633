"""The ``tunesmith`` group: finds commands, and turns errors into exit statuses."""

import logging
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Any

import click

from schedules.errors import InputError, TunesmithError
from tuner.cli import budgets, files, fleet, local, model, remote, show, worker

COMMANDS_GROUP = "tunesmith.commands"

FAILED = 1
WRONG_USAGE = 2

# What `pip install tunesmith[server]` adds, so that its absence can be explained.
_SERVER_COMMANDS = ("serve", "db")


class _Failure(click.ClickException):
    """An error of the project, shown without a traceback."""

    def __init__(self, error: TunesmithError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """2 for what the caller can mend by writing something else."""
        return WRONG_USAGE if isinstance(self.error, InputError) else FAILED


class _Commands(click.Group):
    """Loads the server's commands only when one of them, or the list of all, is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TunesmithError as error:
            raise _Failure(error) from None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            self._load_installed()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load_installed()
        return super().list_commands(ctx)

    def _load_installed(self) -> None:
        for entry in entry_points(group=COMMANDS_GROUP):
            try:
                register: Callable[[click.Group], None] = entry.load()
            except ImportError as error:
                # The server's code is always there, the packages that it needs may not be.
                logging.getLogger(__name__).debug("%s is not usable: %s", entry.name, error)
                for name in _SERVER_COMMANDS:
                    self.add_command(_missing(name))
                continue
            register(self)


def _missing(name: str) -> click.Command:
    @click.command(
        name,
        help="Needs the server packages: pip install 'tunesmith[server]'.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def command() -> None:
        raise click.ClickException(
            f"`tunesmith {name}` needs the server packages; "
            "install them with: pip install 'tunesmith[server]'"
        )

    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tunesmith"), prog_name="tunesmith")
def main() -> None:
    """Find and keep the best schedules of tensor programs.

    `tunesmith demo` shows the whole way on this machine. Exit status: 0 done, 1 the work failed,
    2 wrong usage.
    """


for _module in (local, remote, budgets, show, files, fleet, model, worker):
    for _command in _module.COMMANDS:
        main.add_command(_command)
