"""Commands that need no server: tune, ops, demo."""

import signal
import sys
from contextlib import AbstractContextManager, nullcontext

import click

from schedules.errors import UnavailableError
from schedules.operators import operators
from tuner.cli.options import (
    budget,
    budget_options,
    constant_option,
    json_option,
    parse_arguments,
    target_option,
)
from tuner.cli.output import print_best, print_json, print_table
from tuner.cli.progress import TrialProgress
from tuner.client import convert, wire


@click.command()
@click.argument("op")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--dtype", default="float32", show_default=True, help="Operand dtype.")
@constant_option
@target_option
@budget_options
@click.option(
    "--database-url",
    metavar="URL",
    help="Database that keeps the records and brings earlier ones; without it nothing is kept.",
)
@json_option
def tune(
    op: str,
    arguments: tuple[str, ...],
    dtype: str,
    constants: tuple[str, ...],
    target: wire.TargetRequest,
    trials: int | None,
    seconds: float | None,
    least_gain: float | None,
    space: str,
    seed: int | None,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Tune an operator on this machine, without a server.

    For instance: tunesmith tune batch_matmul b=1 n=512 m=512 k=512 --trials 64
    """
    call = convert.operator_call(
        wire.OperatorWorkload(
            op=op, args=parse_arguments(arguments), dtype=dtype, constants=list(constants)
        )
    )
    # Only this command needs the tuning engine.
    from tuner.embedded import tune as tune_here
    from tuner.session import Progress
    from tuner.store import RecordStore, open_database

    store: AbstractContextManager[RecordStore | None] = (
        nullcontext(None) if database_url is None else open_database(database_url)
    )
    with store as opened, TrialProgress(str(call)) as progress:

        def show(state: Progress) -> None:
            progress.update(
                phase=state.phase,
                done=state.trials_done,
                total=state.trials_budget,
                best_secs=state.best_secs,
                failures=sum(state.failures.values()),
            )

        best = tune_here(
            call.op,
            call.args,
            dtype=call.dtype,
            constants=call.constants,
            trials=budget(trials, seconds),
            seconds=seconds,
            least_gain=least_gain,
            target=target,
            space=space,
            seed=seed,
            store=opened,
            on_progress=show,
        )
    if best is None:
        raise UnavailableError(
            f"{call}: no candidate ran with a right output, not even the compiler's default"
        )
    view = convert.best_to_wire(best)
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        print_best(view)


@click.command()
@click.argument("name", required=False)
@json_option
def ops(name: str | None, as_json: bool) -> None:
    """List the operators, or show one with its arguments."""
    from schedules.operators import find_operator

    chosen = operators() if name is None else (find_operator(name),)
    if as_json:
        print_json(
            {
                "operators": [
                    {
                        "name": operator.name,
                        "aliases": list(operator.aliases),
                        "summary": operator.summary,
                        "dtypes": list(operator.dtypes),
                        "arguments": [
                            {
                                "name": argument.name,
                                "default": argument.default,
                                "minimum": argument.minimum,
                                "maximum": argument.maximum,
                                "aliases": list(argument.aliases),
                                "doc": argument.doc,
                            }
                            for argument in operator.arguments
                        ],
                    }
                    for operator in chosen
                ]
            }
        )
    elif name is None:
        print_table(
            ["operator", "arguments", "dtypes"],
            [
                [
                    operator.name,
                    " ".join(
                        argument.name
                        if argument.default is None
                        else f"{argument.name}={argument.default}"
                        for argument in operator.arguments
                    ),
                    " ".join(operator.dtypes),
                ]
                for operator in chosen
            ],
        )
    else:
        [operator] = chosen
        click.echo(f"{operator.name}: {operator.summary}")
        click.echo(f"aliases: {', '.join(operator.aliases) or 'none'}")
        click.echo(f"dtypes: {', '.join(operator.dtypes)}")
        print_table(
            ["argument", "default", "from", "to", "meaning"],
            [
                [
                    argument.name,
                    "(needed)" if argument.default is None else str(argument.default),
                    str(argument.minimum),
                    str(argument.maximum),
                    argument.doc,
                ]
                for argument in operator.arguments
            ],
        )


@click.command()
@click.option(
    "--trials",
    type=click.IntRange(1, wire.MAX_TRIALS),
    help="For each operator, in place of the demo's own budgets.",
)
@json_option
def demo(trials: int | None, as_json: bool) -> None:
    """Tune real operators on this machine, start to finish, and check what comes out.

    Starts a server and a worker, submits over REST, and replays each best in a fresh process.
    """
    from tuner.demo import print_results, run_demo

    # What the demo started must not outlive it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results = run_demo(trials=trials)
    if as_json:
        print_json({"results": [result.as_dict() for result in results]})
    else:
        print_results(results)
    wrong = [result.name for result in results if not result.verified]
    if wrong:
        raise UnavailableError(f"not verified: {', '.join(wrong)}")


COMMANDS = (demo, tune, ops)
