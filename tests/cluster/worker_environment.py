"""A Python for workers that has our packages from the wheel alone, never from the checkout.

The heavy libraries are those of the environment that runs the tests: one `.pth` line puts its
folder behind the worker's own. Python does not follow the `.pth` files of a folder that came in
this way, so the editable install of the checkout stays out.
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


def make_worker_python(place: Path) -> Path:
    """A Python with the wheel's packages, in a new folder; an environment for a worker."""
    built = os.environ.get("WHEEL")
    wheel = Path(built).resolve() if built else build_wheel(place)
    python = make_bare_python(place)
    _run(*UV, "pip", "install", "--no-deps", "--python", str(python), str(wheel))
    return python


def make_bare_python(place: Path) -> Path:
    """A Python with all libraries and none of our packages, in a new folder."""
    environment = place / "environment"
    _run(*UV, "venv", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    (site_packages(python) / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def build_wheel(place: Path) -> Path:
    """Build the wheel of the checkout from a copy, so that nothing built earlier slips in."""
    copy = place / "sources"
    copy.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    out = ("--out-dir", str(place / "dist"))
    _run(*UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, *out, copy)
    (wheel,) = (place / "dist").glob("*.whl")
    return wheel


def site_packages(python: Path) -> Path:
    """Folder of the packages of an environment, given its Python."""
    (folder,) = python.parent.parent.glob("lib/python3.*/site-packages")
    return folder


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
