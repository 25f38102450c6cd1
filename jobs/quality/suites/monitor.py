"""The checks of `monitor`: compare a published night with the nights before it. They only warn.

There is one row of facts, made from the job's figures. If a metric could not be measured, its fact
is missing and its check is not applicable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import great_expectations.expectations as gxe

from jobs.quality.drift import NOT_APPLICABLE, SHIFTED
from jobs.quality.expectations import as_warning, must_be_zero
from jobs.quality.gate import Expectation, GateResult, validate

GATE = "monitor"
# A share of high scores warns if it differs from the expected share by more than this many standard
# deviations and by more than this factor.
TAIL_DEVIATIONS, TAIL_FACTOR = 3.0, 2.0
ALERT_FACTOR = 2.0


def expectations(figures: Mapping[str, Any] | None = None) -> list[Expectation]:
    """Return the expectations on the one row of `facts`.

    The figures contain the reason why a check is not applicable.
    """
    reasons = {name: str(group.get("why", "")) for name, group in (figures or {}).items()}
    return [
        _drift("features", "feature_drift", "No feature has shifted.", reasons),
        _drift("scores", "score_drift", "The scores have not shifted.", reasons),
        Expectation(
            "calibration",
            "The share of high scores matches the calibration.",
            gxe.ExpectColumnValuesToBeBetween(column="tails_off", max_value=0),
            "{tails}",
            severity="warn",
            kind="drift",
            if_missing="not applicable",
            missing_reason=reasons.get("calibration", ""),
        ),
        Expectation(
            "alert_volume",
            "The number of alerts is within a factor of two of the nights before.",
            gxe.ExpectColumnValuesToBeBetween(
                column="alert_factor", min_value=1 / ALERT_FACTOR, max_value=ALERT_FACTOR
            ),
            "{num_alerts} alerts, mean {mean_before:.1f} before",
            severity="warn",
            kind="volume",
            if_missing="not applicable",
            missing_reason=reasons.get("alerts", ""),
        ),
        as_warning(
            must_be_zero(
                "late_rows",
                "late_rows",
                "No row arrived late for a published night.",
                "volume",
            )
        ),
    ]


def _drift(group: str, name: str, sentence: str, reasons: Mapping[str, str]) -> Expectation:
    return Expectation(
        name,
        sentence,
        gxe.ExpectColumnValuesToBeBetween(column=f"{group}_psi", max_value=SHIFTED),
        f"{{{group}_shifted}} shifted; highest PSI {{{group}_psi:.3f}} ({{{group}_top}})",
        severity="warn",
        kind="drift",
        if_missing="not applicable",
        missing_reason=reasons.get(group) or "The night has no rows.",
    )


def facts(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures as the one row of facts that the expectations check."""
    return {
        **_drift_facts("features", figures["features"]),
        **_drift_facts("scores", figures["scores"]),
        **_tail_facts(figures["calibration"]),
        **_alert_facts(figures["alerts"]),
        "late_rows": figures["late"]["num_rows"],
    }


def run_checks(figures: Mapping[str, Any]) -> GateResult:
    """Check the figures; every check can only warn."""
    return validate(GATE, expectations(figures), [facts(figures)])


def _drift_facts(group: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    measured = {
        column: entry["psi"]
        for column, entry in figures["columns"].items()
        if entry["psi"] is not None
    }
    top = max(measured, key=lambda column: measured[column], default=None)
    shifted = sum(psi > SHIFTED for psi in measured.values())
    return {
        f"{group}_psi": measured[top] if top else None,
        f"{group}_top": top,
        f"{group}_shifted": f"{shifted} of {len(measured)}",
    }


def _tail_facts(figures: Mapping[str, Any]) -> dict[str, Any]:
    if figures["status"] == NOT_APPLICABLE:
        return {"tails_off": None, "tails": ""}
    off = sum(
        _tail_is_off(entry["num_transactions"], figures["num_scores"] * entry["expected_share"])
        for entry in figures["levels"]
    )
    tails = ", ".join(
        f"{100 * entry['observed_share']:.3g} % above {entry['above']}"
        for entry in figures["levels"]
    )
    return {"tails_off": off, "tails": tails}


def _tail_is_off(observed: int, expected: float) -> bool:
    """Return whether a count is further from the expected one than chance and a factor allow."""
    is_significant = abs(observed - expected) > TAIL_DEVIATIONS * math.sqrt(expected)
    return is_significant and not expected / TAIL_FACTOR <= observed <= expected * TAIL_FACTOR


def _alert_facts(figures: Mapping[str, Any]) -> dict[str, Any]:
    if figures["status"] == NOT_APPLICABLE:
        return {"alert_factor": None, "num_alerts": None, "mean_before": None}
    num_alerts, mean = figures["num_alerts"], figures["mean_before"]
    # After nights without alerts, a single alert is not a change.
    quiet = num_alerts <= 1 and mean < 1
    factor = 1.0 if quiet or num_alerts == mean else num_alerts / mean if mean else math.inf
    return {"alert_factor": factor, "num_alerts": num_alerts, "mean_before": mean}
