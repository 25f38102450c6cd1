"""Does a published score hold: rebuilt from the versions that its runs recorded, line by line.

What is compared, and how closely: the published row with the row as it was published (equal), the
transaction's features with those built again from transactions and labels (to the last bit), the
reconstruction error with the one computed again (1e-5 relative: batch shapes change floating
point), the score with the model's calibration of the ranking value. The context's other features
are read at the recorded version and taken as they are there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from feature_defs.catalogue import fingerprints
from feature_defs.errors import InputMissing
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from fraud_models.registry.mlflow_registry import ModelVersion
from jobs.deliveries.label_policy import label_policy_at
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.tables import ALERTS, FEATURES_TABLE, LABELS, SCORES, TRANSACTIONS
from jobs.lineage.provenance import Provenance, lake_as_recorded
from jobs.models.feature_inputs import read_feature_inputs
from jobs.models.model_store import open_registry, read_checkpoint

# Batch shapes change floating point; the same figure within this is the same.
ERROR_TOLERANCE = 1e-5
# One function of one number, in the same precision.
SCORE_TOLERANCE = 1e-9
# Absolute, in nats: a rarity or log odds of errors that are the same within their tolerance.
RANKING_TOLERANCE = 1e-4


def same_error(published: float, recomputed: float) -> bool:
    """Whether two reconstruction errors are the same but for floating point.

    >>> same_error(20.0, 20.0001), same_error(20.0, 20.001)
    (True, False)
    """
    return math.isclose(published, recomputed, rel_tol=ERROR_TOLERANCE)


def same_ranking(published: float, recomputed: float) -> bool:
    """Whether two ranking values are the same; they may be near 0, where errors never are.

    >>> same_ranking(0.0, 0.00001), same_ranking(0.0, 0.001)
    (True, False)
    """
    tolerances = {"rel_tol": ERROR_TOLERANCE, "abs_tol": RANKING_TOLERANCE}
    return math.isclose(published, recomputed, **tolerances)


@dataclass(frozen=True)
class Recomputed:
    """What the recorded versions give."""

    error: float
    ranking_value: float


@dataclass(frozen=True)
class Check:
    """One thing that was compared."""

    what: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Audit:
    """Where a score came from (`facts`), and what was compared (`checks`)."""

    facts: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether everything that was compared holds."""
        return all(check.holds for check in self.checks)

    def show(self) -> None:
        """Print both, and the verdict."""
        from rich.console import Console
        from rich.text import Text

        console = Console(soft_wrap=True)
        console.print(Text("As published", "bold"))
        for name, fact in self.facts:
            console.print(Text(f"  {name}: {fact}"))
        for check in self.checks:
            mark, colour = ("holds", "green") if check.holds else ("DOES NOT HOLD", "bold red")
            console.print(Text.assemble((mark, colour), f"  {check.what}: {check.found}"))
        verdict = "The score holds." if self.holds else "The score DOES NOT HOLD."
        console.print(Text(verdict, "bold"))


def examine(lake: Lake, scored: Row, runs: Provenance, recomputed: Recomputed) -> Audit:
    """Compare a published score with what the recorded versions give.

    Raises:
        InputMissing: the model or a recorded version is gone.
    """
    model = open_registry(lake).resolve(scored["model_version"])
    alerts = _alerts(lake, scored)
    published, ranked = scored["reconstruction_error"], scored["ranking_value"]
    checks = (
        _row_check(lake, scored, runs),
        *_feature_checks(lake, scored, runs),
        Check(
            "model",
            # A backfill may have scored its nights with several.
            scored["model_version"] in (runs.score.run.model_version or "").split(", "),
            f"the row names version {scored['model_version']}, the run "
            f"{runs.score.run.model_version}; its checkpoint has the registered digest",
        ),
        Check(
            "reconstruction error",
            same_error(published, recomputed.error),
            f"published {published!r}, computed again {recomputed.error!r}",
        ),
        Check(
            "ranking value",
            same_ranking(ranked, recomputed.ranking_value),
            f"published {ranked!r}, computed again {recomputed.ranking_value!r}",
        ),
        _score_check(scored, model),
        # A backfill leaves the alerts that people were shown as they are.
        *(_alert_checks(scored, alerts) if runs.alerts else ()),
    )
    return Audit(_facts(scored, runs, model, alerts), checks)


def _facts(
    scored: Row, runs: Provenance, model: ModelVersion, alerts: list[Row]
) -> tuple[tuple[str, str], ...]:
    tables = ", ".join(f"{name} {version}" for name, version in sorted(runs.versions.items()))
    ran = [item for item in (runs.features, runs.score, runs.publish, runs.alerts) if item]
    ids = ", ".join(item.run.run_id for item in ran)
    packages = ", ".join(sorted({item.package_version or "not recorded" for item in ran}))
    alert = "none was published for this transaction"
    if alerts:
        alert = f"published, rank {alerts[0]['rank']} of the night {scored['business_date']}"
    if not runs.alerts:
        alert += "; no `alerts` ran since this score was published"
    return (
        ("model", f"version {model.version}, checkpoint {model.sha256} in {model.uri}"),
        ("table versions", tables),
        ("runs", ids),
        ("package version", packages),
        ("alert", alert),
    )


def _row_check(lake: Lake, scored: Row, runs: Provenance) -> Check:
    """The row of today beside the row at the version that `publish` made."""
    if runs.publish is None:
        return Check("published row", False, "no run of `publish` is recorded for this score")
    version = runs.publish.run.versions_out[SCORES.name]
    then = (
        lake.read(SCORES, version)
        .where(F.col("business_date") == F.lit(scored["business_date"]))
        .where(F.col("transaction_id") == scored["transaction_id"])
        .collect()
    )
    if len(then) != 1:
        return Check("published row", False, f"version {version} of scores has {len(then)} rows")
    names = [name for name in then[0].asDict() if then[0][name] != scored[name]]
    found = f"differs from version {version} of scores in {', '.join(names)}"
    same = f"is the row of version {version} of scores, which `publish` made"
    return Check("published row", not names, found if names else same)


def _feature_checks(lake: Lake, scored: Row, runs: Provenance) -> tuple[Check, Check]:
    """The transaction's features, built again from what was known then."""
    built = runs.features.run
    then = built.figures["fingerprints"]
    now = fingerprints()
    changed = sorted(name for name, mark in then.items() if now.get(name) != mark)
    names = [name for name in then if name not in changed]
    again = _one(_rebuilt(lake, scored, runs), scored)
    stored = _one(lake.read(FEATURES_TABLE, runs.versions[FEATURES_TABLE.name]), scored)
    differing = [
        f"{name} ({stored[name]!r}, built again {again[name]!r})"
        for name in names
        if _bits(stored[name]) != _bits(again[name])
    ]
    inputs = f"transactions {built.versions_in[TRANSACTIONS.name]}"
    inputs += f" and labels {built.versions_in[LABELS.name]}"
    same = f"all {len(names)} built again from {inputs} are equal to the bit"
    return (
        Check(
            "definitions",
            not changed,
            f"changed since, so not compared: {', '.join(changed)}"
            if changed
            else f"all {len(then)} features mean what they meant",
        ),
        Check(
            "features",
            not differing,
            f"built again from {inputs}, these differ: {'; '.join(differing)}"
            if differing
            else same,
        ),
    )


def _rebuilt(lake: Lake, scored: Row, runs: Provenance) -> DataFrame:
    """Features of the night's transactions of this card or merchant; no other can matter."""
    day = scored["business_date"]
    built = runs.features.run
    policy = label_policy_at(lake, built.started_at)
    lake = lake_as_recorded(lake, built)
    # All that the run has read: a range sees what came with later deliveries of the range.
    known = read_feature_inputs(lake, built.dates or Dates(day, day), built.versions_in, policy)
    card = F.col("card_id") == scored["card_id"]
    near = known.transactions.where(card | (F.col("merchant_id") == scored["merchant_id"]))
    known = FeatureInputs(near, known.labels, policy)
    return compile_features(known, day, day, lake.settings.late_days)


def _one(features: DataFrame, scored: Row) -> Row:
    """The transaction's row.

    Raises:
        InputMissing: it is not there, or there are several.
    """
    rows = (
        features.where(F.col("business_date") == F.lit(scored["business_date"]))
        .where(F.col("transaction_id") == scored["transaction_id"])
        .collect()
    )
    if len(rows) != 1:
        raise InputMissing(
            f"The recorded versions have {len(rows)} rows of features for the transaction "
            f"{scored['transaction_id']}.",
            expected="one, the row that it was scored from.",
            remedy="restore the lake's tables from a copy of that time.",
        )
    return rows[0]


def _bits(value: object) -> object:
    """A value that is equal only when every bit is."""
    return value.hex() if isinstance(value, float) else value


def _score_check(scored: Row, model: ModelVersion) -> Check:
    calibration = read_checkpoint(model).calibration
    assert calibration is not None, "scores were published, so the model is calibrated"
    again = float(calibration.score([scored["ranking_value"]])[0])
    return Check(
        "score",
        math.isclose(scored["score"], again, rel_tol=SCORE_TOLERANCE),
        f"published {scored['score']!r}, calibrated again {again!r}",
    )


def _alerts(lake: Lake, scored: Row) -> list[Row]:
    """Alerts are read back, never chosen again."""
    return (
        lake.read(ALERTS)
        .where(F.col("business_date") == F.lit(scored["business_date"]))
        .where(F.col("transaction_id") == scored["transaction_id"])
        .collect()
    )


def _alert_checks(scored: Row, alerts: list[Row]) -> tuple[Check, ...]:
    """An alert that was chosen from this score shows it, and its reasons."""
    checks = []
    for alert in alerts:
        same = alert["score"] == scored["score"] and alert["reasons"] == scored["reasons"]
        found = f"shows the score {alert['score']!r} and " + (
            "the reasons of the published row" if same else "not what the published row has"
        )
        checks.append(Check("alert", same, found))
    return tuple(checks)
