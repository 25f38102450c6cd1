"""The command `fraud-scoring`, also `python -m jobs`: explains an invalid feature definition.

Definitions are checked when their modules are imported, which the command line does first. An
error that comes from the folder `feature_defs` is printed as one paragraph with its file and line.
"""

import sys
import traceback
from pathlib import Path

import feature_defs
from feature_defs.errors import DefinitionError

DEFINITIONS = Path(feature_defs.__file__).parent


def main() -> None:
    """Run the command line (entry point of the console script)."""
    try:
        from jobs.cli.main import main as run
    except Exception as error:
        frames = [at for at in traceback.extract_tb(error.__traceback__) if at.name == "<module>"]
        file, line = frames[-1].filename, frames[-1].lineno
        if isinstance(error, SyntaxError):
            # A file with a syntax error never ran: the traceback ends at the import statement.
            file, line = error.filename or file, error.lineno or line
        is_definition = Path(file).parent == DEFINITIONS
        if "--debug" in sys.argv or not (is_definition or isinstance(error, DefinitionError)):
            raise
        # Python's own errors, such as a missing argument, need their class name to be understood.
        kind = "" if isinstance(error, DefinitionError) else f"{type(error).__name__}: "
        sys.stderr.write(
            f"Invalid feature definition in {file}, line {line}: {kind}{error}. "
            "What to do: correct this definition.\n"
        )
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
