"""Audit a published score: reproduce it from the versions that its runs recorded, and compare.

| compared                    | with                                            | tolerance        |
| --------------------------- | ----------------------------------------------- | ---------------- |
| row of `scores`             | the row at the version that `publish` committed | equal            |
| features of the transaction | features rebuilt from transactions and labels   | equal to the bit |
| reconstruction error        | the recomputed error                            | 1e-5 relative    |
| ranking value               | the recomputed value                            | 1e-5, 1e-4 nats  |
| score                       | the model's calibration of the ranking value    | 1e-9 relative    |

Floating-point results depend on batch shapes, hence the tolerances. Features of the context's other
events are not rebuilt: they are read at the recorded version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES, available, fingerprints
from feature_defs.errors import InputMissing
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from fraud_models.registry.mlflow_registry import ModelVersion
from jobs.deliveries.delivery_history import label_policy_at
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.tables import ALERTS, FEATURES_TABLE, LABELS, SCORES, TRANSACTIONS
from jobs.lineage.provenance import Provenance, lake_as_recorded
from jobs.models.feature_inputs import read_feature_inputs
from jobs.models.model_store import open_registry, read_checkpoint

# Relative: floating-point results depend on batch shapes.
ERROR_TOLERANCE = 1e-5
# Relative: both scores are the same function of the same number, in the same precision.
SCORE_TOLERANCE = 1e-9
# Absolute, in nats: rarities and log odds of errors that are equal within their tolerance.
RANKING_TOLERANCE = 1e-4


def same_error(published: float, recomputed: float) -> bool:
    """Return whether two reconstruction errors differ by floating-point noise only.

    >>> same_error(20.0, 20.0001), same_error(20.0, 20.001)
    (True, False)
    """
    return math.isclose(published, recomputed, rel_tol=ERROR_TOLERANCE)


def same_ranking(published: float, recomputed: float) -> bool:
    """Return whether two ranking values, which may be near 0, differ by floating-point noise only.

    >>> same_ranking(0.0, 0.00001), same_ranking(0.0, 0.001)
    (True, False)
    """
    tolerances = {"rel_tol": ERROR_TOLERANCE, "abs_tol": RANKING_TOLERANCE}
    return math.isclose(published, recomputed, **tolerances)


@dataclass(frozen=True)
class Recomputed:
    """Error and ranking value of a score, recomputed from the recorded versions."""

    error: float
    """Reconstruction error, in nats."""
    ranking_value: float


@dataclass(frozen=True)
class Check:
    """One comparison of an audit."""

    what: str
    reproduced: bool
    found: str


@dataclass(frozen=True)
class Audit:
    """The origin of a score (`facts`) and its comparisons (`checks`)."""

    facts: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]

    @property
    def reproduced(self) -> bool:
        """Return whether every comparison succeeded."""
        return all(check.reproduced for check in self.checks)

    def show(self) -> None:
        """Print the facts, the checks and the conclusion."""
        from rich.console import Console
        from rich.text import Text

        console = Console(soft_wrap=True)
        console.print(Text("As published", "bold"))
        for name, fact in self.facts:
            console.print(Text(f"  {name}: {fact}"))
        for check in self.checks:
            mark, colour = ("reproduced", "green")
            if not check.reproduced:
                mark, colour = ("NOT REPRODUCED", "bold red")
            console.print(Text.assemble((mark, colour), f"  {check.what}: {check.found}"))
        conclusion = "reproduced" if self.reproduced else "NOT REPRODUCED"
        console.print(Text(f"The score is {conclusion}.", "bold"))


def examine(lake: Lake, scored: Row, runs: Provenance, recomputed: Recomputed) -> Audit:
    """Compare a published score with the one reproduced from the recorded versions.

    Raises:
        InputMissing: the model or a recorded version no longer exists.
    """
    model = open_registry(lake).resolve(scored["model_version"])
    alerts = _alerts(lake, scored)
    published, ranked = scored["reconstruction_error"], scored["ranking_value"]
    checks = (
        _row_check(lake, scored, runs),
        *_feature_checks(lake, scored, runs),
        Check(
            "model",
            # A backfill may have scored its nights with several models.
            scored["model_version"] in (runs.score.run.model_version or "").split(", "),
            f"version {scored['model_version']} in the row, {runs.score.run.model_version} in the "
            "run; the digest of its checkpoint is the registered one",
        ),
        Check(
            "reconstruction error",
            same_error(published, recomputed.error),
            f"published {published!r}, recomputed {recomputed.error!r}",
        ),
        Check(
            "ranking value",
            same_ranking(ranked, recomputed.ranking_value),
            f"published {ranked!r}, recomputed {recomputed.ranking_value!r}",
        ),
        _score_check(scored, model),
        # A backfill does not change published alerts, so they may show an earlier score.
        *(_alert_checks(scored, alerts) if runs.alerts else ()),
    )
    return Audit(_facts(scored, runs, model, alerts), checks)


def _facts(
    scored: Row, runs: Provenance, model: ModelVersion, alerts: list[Row]
) -> tuple[tuple[str, str], ...]:
    tables = ", ".join(f"{name} {version}" for name, version in sorted(runs.versions.items()))
    recorded = [item for item in (runs.features, runs.score, runs.publish, runs.alerts) if item]
    ids = ", ".join(item.run.run_id for item in recorded)
    packages = ", ".join(sorted({item.package_version or "not recorded" for item in recorded}))
    alert = "none was published for this transaction"
    if alerts:
        alert = f"published, rank {alerts[0]['rank']} of the night {scored['business_date']}"
    if not runs.alerts:
        alert += "; `alerts` has not run since this score was published"
    return (
        ("model", f"version {model.version}, checkpoint {model.sha256} in {model.uri}"),
        ("table versions", tables),
        ("runs", ids),
        ("package version", packages),
        ("alert", alert),
    )


def _row_check(lake: Lake, scored: Row, runs: Provenance) -> Check:
    """Compare the current row with the row at the version that `publish` committed."""
    if runs.publish is None:
        return Check("published row", False, "the run of `publish` is not recorded")
    version = runs.publish.run.versions_out[SCORES.name]
    published = (
        lake.read(SCORES, version)
        .where(F.col("business_date") == F.lit(scored["business_date"]))
        .where(F.col("transaction_id") == scored["transaction_id"])
        .collect()
    )
    if len(published) != 1:
        found = f"version {version} of scores has {len(published)} rows"
        return Check("published row", False, found)
    names = [name for name in published[0].asDict() if published[0][name] != scored[name]]
    found = f"differs from version {version} of scores in {', '.join(names)}"
    same = f"equals the row in version {version} of scores, which `publish` committed"
    return Check("published row", not names, found if names else same)


def _feature_checks(lake: Lake, scored: Row, runs: Provenance) -> tuple[Check, Check]:
    """Compare the transaction's stored features with those rebuilt from the recorded versions.

    A feature whose definition has changed since is reported and not compared.
    """
    built = runs.features.run
    recorded = built.figures["fingerprints"]
    current = fingerprints()
    changed = sorted(name for name, mark in recorded.items() if current.get(name) != mark)
    names = [name for name in recorded if name not in changed]
    rebuilt = _one(_rebuilt(lake, scored, runs), scored)
    stored = _one(lake.read(FEATURES_TABLE, runs.versions[FEATURES_TABLE.name]), scored)
    differing = [
        f"{name} (stored {stored[name]!r}, rebuilt {rebuilt[name]!r})"
        for name in names
        if _bits(stored[name]) != _bits(rebuilt[name])
    ]
    inputs = f"transactions {built.versions_in[TRANSACTIONS.name]}"
    inputs += f" and labels {built.versions_in[LABELS.name]}"
    same = f"all {len(names)} features rebuilt from {inputs} are equal to the bit"
    return (
        Check(
            "definitions",
            not changed,
            f"changed since, so not compared: {', '.join(changed)}"
            if changed
            else f"unchanged for all {len(recorded)} features",
        ),
        Check(
            "features",
            not differing,
            f"different when rebuilt from {inputs}: {'; '.join(differing)}" if differing else same,
        ),
    )


def _rebuilt(lake: Lake, scored: Row, runs: Provenance) -> DataFrame:
    """Rebuild the features of the night's transactions that share an entity with this one.

    No other transaction has an influence on this one's features.
    """
    day = scored["business_date"]
    built = runs.features.run
    policy = label_policy_at(lake, built.started_at)
    lake = lake_as_recorded(lake, built)
    # Use all dates of the run: a run over a range also reads late rows of its later deliveries.
    inputs = read_feature_inputs(lake, built.dates or Dates(day, day), built.versions_in, policy)
    features = available(FEATURES, dict(inputs.transactions.dtypes))
    entities = {feature.entity for feature in features.values() if feature.entity}
    values = _one(inputs.transactions, scored)
    # An entity that the transaction does not have shares no transaction with it.
    shares = (
        reduce(and_, (F.col(key) == values[key] for key in entity.keys))
        for entity in entities
        if all(values[key] is not None for key in entity.keys)
    )
    related = inputs.transactions.where(reduce(or_, shares))
    inputs = FeatureInputs(related, inputs.labels, policy)
    return compile_features(inputs, day, day, lake.settings.late_days)


def _one(features: DataFrame, scored: Row) -> Row:
    """Return the only row of the transaction.

    Raises:
        InputMissing: there is no such row, or there are several.
    """
    rows = (
        features.where(F.col("business_date") == F.lit(scored["business_date"]))
        .where(F.col("transaction_id") == scored["transaction_id"])
        .collect()
    )
    if len(rows) != 1:
        raise InputMissing(
            f"The recorded versions contain {len(rows)} rows of features for the transaction "
            f"{scored['transaction_id']}.",
            expected="one row, from which the transaction was scored.",
            remedy="restore the tables of the lake from a backup of that time.",
        )
    return rows[0]


def _bits(value: object) -> object:
    """Return a value that compares equal only if every bit is equal."""
    return value.hex() if isinstance(value, float) else value


def _score_check(scored: Row, model: ModelVersion) -> Check:
    calibration = read_checkpoint(model).calibration
    assert calibration is not None, "scores were published, so the model is calibrated"
    recalibrated = float(calibration.score([scored["ranking_value"]])[0])
    return Check(
        "score",
        math.isclose(scored["score"], recalibrated, rel_tol=SCORE_TOLERANCE),
        f"published {scored['score']!r}, recalibrated {recalibrated!r}",
    )


def _alerts(lake: Lake, scored: Row) -> list[Row]:
    """Return the published alerts of the transaction; they are read, not selected again."""
    return (
        lake.read(ALERTS)
        .where(F.col("business_date") == F.lit(scored["business_date"]))
        .where(F.col("transaction_id") == scored["transaction_id"])
        .collect()
    )


def _alert_checks(scored: Row, alerts: list[Row]) -> tuple[Check, ...]:
    """Compare the score and reasons of each alert with those of the published row."""
    checks = []
    for alert in alerts:
        same = alert["score"] == scored["score"] and alert["reasons"] == scored["reasons"]
        found = f"has the score {alert['score']!r}; score and reasons " + (
            "are those of the published row" if same else "differ from the published row"
        )
        checks.append(Check("alert", same, found))
    return tuple(checks)
