"""The command `fraud-scoring`, also `python -m jobs`: says in words when a definition is wrong.

Definitions are checked where they stand, which is when the command's modules are read.
"""

import sys
import traceback
from pathlib import Path

import feature_defs
from feature_defs.errors import DefinitionError

DEFINITIONS = Path(feature_defs.__file__).parent


def main() -> None:
    """Entry point of the console script."""
    try:
        from jobs.cli.main import main as run
    except Exception as error:
        read = [at for at in traceback.extract_tb(error.__traceback__) if at.name == "<module>"]
        file, line = read[-1].filename, read[-1].lineno
        if isinstance(error, SyntaxError):
            # What cannot be read never ran: the traceback ends where it was imported.
            file, line = error.filename or file, error.lineno or line
        defines = Path(file).parent == DEFINITIONS
        if "--debug" in sys.argv or not (defines or isinstance(error, DefinitionError)):
            raise
        # What Python itself refuses, such as a missing argument, is told with its own name.
        kind = "" if isinstance(error, DefinitionError) else f"{type(error).__name__}: "
        sys.stderr.write(
            f"A definition of features does not hold: {kind}{error}. It stands in "
            f"{file}, line {line}. What to do: correct it there.\n"
        )
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
