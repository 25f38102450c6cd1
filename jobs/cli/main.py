"""The command `fraud-scoring`: lists the sub-commands, turns problems into exit codes.

Exit codes: 0 done; 2 bad usage or settings; 3 a gate failed; 4 an input is missing or not
ready; 5 another run holds this night; 1 anything unexpected.
"""

import sys

import typer

from feature_defs.errors import FraudScoringError, UsageError
from jobs.cli import lake_commands, model_commands, night_commands
from jobs.lake.errors import translate

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
    lake_commands.demo,
    lake_commands.simulate,
    night_commands.ingest,
    night_commands.features,
    model_commands.train,
    model_commands.evaluate,
    model_commands.backtest,
    model_commands.promote,
    model_commands.export,
    night_commands.score,
    night_commands.publish,
    night_commands.alerts,
    night_commands.monitor,
    night_commands.report,
    night_commands.nightly,
    night_commands.backfill,
    lake_commands.explain,
    lake_commands.maintain,
    lake_commands.doctor,
):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    debug = "--debug" in sys.argv
    try:
        _require_text(sys.argv[1:])
        app(standalone_mode=True)
    except FraudScoringError as problem:
        _give_up(problem, debug=debug, cause=problem)
        sys.exit(problem.exit_code)
    except Exception as error:
        if known := translate(error):
            _give_up(known, debug=debug, cause=error)
            sys.exit(known.exit_code)
        if debug:
            raise
        from jobs.runtime.logs import escape_control_characters

        first_line = str(error).strip().split("\n", 1)[0][:2000]
        typer.secho(
            f"Something unexpected happened: {type(error).__name__}: {escape_control_characters(first_line)} "
            "What to do: run the command again with --debug and read the traceback.",
            err=True,
            fg="red",
        )
        sys.exit(1)


def _require_text(arguments: list[str]) -> None:
    """Refuse what is no text: neither Spark nor a table could hold it.

    Raises:
        UsageError: an argument is not UTF-8.
    """
    wrong = [a for a in arguments if any("\udc80" <= sign <= "\udcff" for sign in a)]
    if wrong:
        raise UsageError(
            f"These arguments are no text: {', '.join(ascii(argument) for argument in wrong)}.",
            expected="UTF-8.",
            remedy="write them in a terminal that is set to UTF-8.",
        )


def _give_up(problem: FraudScoringError, *, debug: bool, cause: Exception) -> None:
    if debug:
        import traceback

        traceback.print_exception(cause)
    from jobs.runtime.logs import escape_control_characters

    typer.secho(escape_control_characters(str(problem)), err=True, fg="red")
