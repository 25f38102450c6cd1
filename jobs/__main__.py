"""The command `fraud-scoring`, also `python -m jobs`: says in words when a definition is wrong.

Definitions are checked where they stand, which is when the command's modules are read.
"""

import sys
import traceback

from feature_defs.problems import DefinitionError


def main() -> None:
    """Entry point of the console script."""
    try:
        from jobs.cli import main as run
    except DefinitionError as error:
        if "--debug" in sys.argv:
            raise
        read = [at for at in traceback.extract_tb(error.__traceback__) if at.name == "<module>"]
        sys.stderr.write(
            f"A definition of features does not hold: {error}. It stands in {read[-1].filename}, "
            f"line {read[-1].lineno}. What to do: correct it there.\n"
        )
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
