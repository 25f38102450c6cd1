"""Importing definitions needs neither Spark nor torch."""

from __future__ import annotations

import subprocess
import sys


def test_import_definitions_loads_neither_spark_nor_torch() -> None:
    code = (
        "import feature_defs, feature_defs.catalogue, feature_defs.labels, sys\n"
        "assert 'pyspark' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
