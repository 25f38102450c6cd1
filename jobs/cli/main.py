"""The command `fraud-scoring`: registers the sub-commands and turns errors into exit codes.

Exit codes: 0 done; 2 bad usage or settings; 3 a gate failed; 4 an input is missing or not
ready; 5 another run holds the lease of this night; 1 any other error.
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

# `--help` lists the commands in this order, in which a new user needs them.
for command in (
    lake_commands.demo,
    lake_commands.simulate,
    lake_commands.mapping,
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
    """Run one command and exit with its code."""
    debug = "--debug" in sys.argv
    try:
        _require_utf8(sys.argv[1:])
        app(standalone_mode=True)
    except FraudScoringError as error:
        _print_error(error, debug=debug, cause=error)
        sys.exit(error.exit_code)
    except Exception as error:
        if translated := translate(error):
            _print_error(translated, debug=debug, cause=error)
            sys.exit(translated.exit_code)
        if debug:
            raise
        from jobs.runtime.logs import escape_control_characters

        first_line = str(error).strip().split("\n", 1)[0][:2000]
        typer.secho(
            f"Unexpected error: {type(error).__name__}: {escape_control_characters(first_line)} "
            "What to do: run the command again with --debug and read the traceback.",
            err=True,
            fg="red",
        )
        sys.exit(1)


def _require_utf8(arguments: list[str]) -> None:
    """Refuse arguments that Spark and the tables cannot store.

    Raises:
        UsageError: an argument is not valid UTF-8.
    """
    # Python decodes each invalid byte of an argument to one of these lone surrogates.
    wrong = [a for a in arguments if any("\udc80" <= character <= "\udcff" for character in a)]
    if wrong:
        raise UsageError(
            f"These arguments are not valid UTF-8: {', '.join(map(ascii, wrong))}.",
            expected="arguments in UTF-8.",
            remedy="run the command in a terminal that is set to UTF-8.",
        )


def _print_error(error: FraudScoringError, *, debug: bool, cause: Exception) -> None:
    """Print an error to standard error, with `debug` after the traceback of its cause."""
    if debug:
        import traceback

        traceback.print_exception(cause)
    from jobs.runtime.logs import escape_control_characters

    typer.secho(escape_control_characters(str(error)), err=True, fg="red")
