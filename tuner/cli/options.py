"""Options and arguments that several commands share."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from schedules.errors import InputError
from tuner.client import wire
from tuner.client.convert import operator_call
from tuner.client.http import DEFAULT_SERVER
from tuner.client.sdk import Client

Command = TypeVar("Command", bound=Callable[..., Any])


def server_options(command: Command) -> Command:
    """Add ``--server`` and ``--token-file``."""
    command = click.option(
        "--token-file",
        envvar="TUNESMITH_TOKEN_FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="File with the token, where the server wants one [env: TUNESMITH_TOKEN_FILE].",
    )(command)
    return click.option(
        "--server",
        envvar="TUNESMITH_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        metavar="URL",
        help="The server [env: TUNESMITH_SERVER].",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object; all else goes to stderr."
    )(command)


def budget_options(command: Command) -> Command:
    """Add ``--trials``, ``--seconds``, ``--least-gain``, ``--space`` and ``--seed``."""
    for option in (
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="For a repeatable search."),
        click.option("--space", default="default", show_default=True, help="Schedule space."),
        click.option(
            "--least-gain",
            type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
            metavar="SHARE",
            help="Stop when the next batch should gain less than this, such as 0.01.",
        ),
        click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Time budget."),
        click.option(
            "--trials",
            type=click.IntRange(1, wire.MAX_TRIALS),
            help="Trial budget; 64 where no budget is given.",
        ),
    ):
        command = option(command)
    return command


def budget(trials: int | None, seconds: float | None) -> int | None:
    """Return the trial budget: 64 where neither bound is given."""
    return 64 if trials is None and seconds is None else trials


def workload_options(command: Command) -> Command:
    """Add ``[OP] [KEY=VALUE...]``, ``--dtype``, ``--constant``, ``--ir`` and ``--target``."""
    for option in (
        click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]..."),
        click.argument("op", required=False),
        click.option("--dtype", default=None, help="Operand dtype [default: float32]."),
        constant_option,
        click.option(
            "--ir",
            "ir_file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
            help="File with the program as JSON of tvm.ir.save_json, in place of OP.",
        ),
        target_option,
    ):
        command = option(command)
    return command


def constant_option(command: Command) -> Command:
    """Add ``--constant``."""
    return click.option(
        "--constant",
        "constants",
        multiple=True,
        metavar="INPUT",
        help="An input that is the same in every call, as weights are: it is packed once, ahead of "
        "them. May be given several times.",
    )(command)


def target_option(command: Command) -> Command:
    """Add ``--target``."""
    return click.option(
        "--target",
        default="native",
        show_default=True,
        callback=lambda ctx, param, value: parse_target(value),
        help="'native', a target id, or a dict of TVM's form as JSON.",
    )(command)


def parse_target(text: str) -> wire.TargetRequest:
    """Read a target option."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}") from None
    return value


def parse_arguments(arguments: Sequence[str]) -> dict[str, int]:
    """Read ``KEY=VALUE`` arguments."""
    values: dict[str, int] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{argument!r} is not KEY=VALUE, such as n=512")
        if name in values:
            raise click.UsageError(f"argument {name!r} is given twice")
        try:
            values[name] = int(text)
        except ValueError:
            raise click.UsageError(f"argument {name!r} must be an integer, not {text!r}") from None
    return values


def parse_workload(
    op: str | None,
    arguments: Sequence[str],
    dtype: str | None,
    constants: Sequence[str],
    ir_file: Path | None,
) -> wire.WorkloadRequest:
    """Read a workload; a named operator is checked against the catalogue before anything is sent.

    Raises
    ------
    InputError
        The operator is unknown or its arguments do not fit.
    """
    if ir_file is not None:
        if op is not None or dtype is not None or constants:
            raise click.UsageError(
                "give either OP with its arguments, --dtype and --constant, or --ir, not both"
            )
        with click.open_file(str(ir_file)) as file:
            text = file.read()
        if not text:
            raise InputError(f"{ir_file} is empty")
        return wire.IrWorkload(ir=text)
    if op is None:
        raise click.UsageError(
            "name an operator with its arguments (`tunesmith ops` lists them), or give --ir FILE"
        )
    workload = wire.OperatorWorkload(
        op=op,
        args=parse_arguments(arguments),
        dtype=dtype or "float32",
        constants=list(constants),
    )
    operator_call(workload)
    return workload


def open_client(server: str, token_file: Path | None) -> Client:
    """Make the client of a command."""
    return Client(server, token=read_token(token_file))


def read_token(token_file: Path | None) -> str | None:
    """Read the first word of a token file.

    Raises
    ------
    InputError
        There is none.
    """
    if token_file is None:
        return None
    words = token_file.read_text(encoding="utf-8").split()
    if not words:
        raise InputError(f"{token_file} is empty; it must hold the token")
    return words[0]
