"""Create a Python for workers that has our packages from the wheel, never from the checkout.

The large libraries are those of the environment that runs the tests: one `.pth` line adds its
folder behind the worker's own. Python ignores the `.pth` files of a folder added this way, so the
editable install of the checkout is not visible.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "feature_defs", "fraud_models", "jobs")
UV = (sys.executable, "-m", "uv", "--quiet", "--offline")


def make_worker_python(folder: Path) -> Path:
    """Create a worker's environment with the wheel's packages; return its Python."""
    built = os.environ.get("WHEEL")
    wheel = Path(built).resolve() if built else build_wheel(folder)
    python = make_bare_python(folder)
    _run(*UV, "pip", "install", "--no-deps", "--python", str(python), str(wheel))
    return python


def make_bare_python(folder: Path) -> Path:
    """Create an environment with all libraries and without our packages; return its Python."""
    environment = folder / "environment"
    _run(*UV, "venv", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    (site_packages(python) / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout, without the output of earlier builds."""
    copy = folder / "sources"
    copy.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    out = ("--out-dir", str(folder / "dist"))
    _run(*UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, *out, copy)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def site_packages(python: Path) -> Path:
    """Return the package folder of an environment, given its Python."""
    (packages,) = python.parent.parent.glob("lib/python3.*/site-packages")
    return packages


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
