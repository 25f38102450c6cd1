"""The command `fraud-scoring`: lists the sub-commands, turns problems into exit codes.

Exit codes: 0 done; 2 bad usage or settings; 3 a gate failed; 4 an input is missing or not
ready; 5 another run holds this night; 1 anything unexpected.
"""

import sys

import typer

from feature_defs.problems import Problem, UsageProblem
from jobs import cli_lake, cli_models, cli_nights
from jobs.failures import translate

app = typer.Typer(
    name="fraud-scoring",
    help="Batch fraud scoring: features, models, scores, gates and the morning's report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order in which a newcomer meets them.
for command in (
    cli_lake.demo,
    cli_lake.simulate,
    cli_nights.ingest,
    cli_nights.features,
    cli_models.train,
    cli_models.evaluate,
    cli_models.backtest,
    cli_models.promote,
    cli_models.export,
    cli_nights.score,
    cli_nights.publish,
    cli_nights.alerts,
    cli_nights.monitor,
    cli_nights.report,
    cli_nights.nightly,
    cli_nights.backfill,
    cli_lake.explain,
    cli_lake.maintain,
    cli_lake.doctor,
):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    debug = "--debug" in sys.argv
    try:
        _require_text(sys.argv[1:])
        app(standalone_mode=True)
    except Problem as problem:
        _give_up(problem, debug=debug, cause=problem)
        sys.exit(problem.exit_code)
    except Exception as error:
        if known := translate(error):
            _give_up(known, debug=debug, cause=error)
            sys.exit(known.exit_code)
        if debug:
            raise
        from jobs.logs import visible

        first_line = str(error).strip().split("\n", 1)[0][:2000]
        typer.secho(
            f"Something unexpected happened: {type(error).__name__}: {visible(first_line)} "
            "What to do: run the command again with --debug and read the traceback.",
            err=True,
            fg="red",
        )
        sys.exit(1)


def _require_text(arguments: list[str]) -> None:
    """Refuse what is no text: neither Spark nor a table could hold it.

    Raises:
        UsageProblem: an argument is not UTF-8.
    """
    wrong = [a for a in arguments if any("\udc80" <= sign <= "\udcff" for sign in a)]
    if wrong:
        raise UsageProblem(
            f"These arguments are no text: {', '.join(ascii(argument) for argument in wrong)}.",
            expected="UTF-8.",
            remedy="write them in a terminal that is set to UTF-8.",
        )


def _give_up(problem: Problem, *, debug: bool, cause: Exception) -> None:
    if debug:
        import traceback

        traceback.print_exception(cause)
    from jobs.logs import visible

    typer.secho(visible(str(problem)), err=True, fg="red")
