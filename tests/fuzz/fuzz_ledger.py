"""Check that each delivered row is in `transactions` or in `quarantine` once, with its reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fuzz_deliveries import Plan, Row
from fuzz_values import ACCEPTED, ANY_OUTCOME, OTHER_NIGHT
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

MAX_PRINTED = 5


@dataclass
class RowOutcome:
    """What the lake contains for one tag."""

    accepted: list[tuple[Decimal, datetime]] = field(default_factory=list)
    quarantined: list[set[str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return how often the tag is in the lake."""
        return len(self.accepted) + len(self.quarantined)


@dataclass
class Ledger:
    """The outcomes of all rows of one delivery."""

    plan: Plan
    outcomes: dict[str, RowOutcome]
    withheld: int
    """Quarantined rows whose columns are not stored."""

    @property
    def num_accepted(self) -> int:
        """Return the number of rows in `transactions`."""
        return sum(len(outcome.accepted) for outcome in self.outcomes.values())

    @property
    def num_quarantined(self) -> int:
        """Return the number of rows in `quarantine`."""
        return sum(len(outcome.quarantined) for outcome in self.outcomes.values()) + self.withheld

    def by_reason(self) -> Counter[str]:
        """Return quarantined rows by reason; a row with several reasons counts for each."""
        counts = Counter(
            r for outcome in self.outcomes.values() for why in outcome.quarantined for r in why
        )
        return counts + Counter({"malformed_record": self.withheld})


def read_ledger(lake: Lake, plan: Plan) -> Ledger:
    """Read a delivery's rows from the lake's tables."""
    from jobs.lake.tables import QUARANTINE, TRANSACTIONS
    from jobs.quality.rows.quarantine import WITHHELD

    ours = F.col("business_date").between(F.lit(plan.nights[0]), F.lit(plan.nights[-1]))
    outcomes: dict[str, RowOutcome] = defaultdict(RowOutcome)
    micros = F.unix_micros("event_time").alias("micros")
    for row in lake.read(TRANSACTIONS).where(ours).select("tag", "amount", micros).collect():
        moment = datetime.fromtimestamp(row["micros"] // 1_000_000, UTC)
        moment = moment.replace(microsecond=row["micros"] % 1_000_000)
        outcomes[_tag(row)].accepted.append((row["amount"], moment))
    quarantined = lake.read(QUARANTINE).where(ours & F.col("source").endswith("#transactions"))
    tags = quarantined.select(
        F.get_json_object("raw", "$.tag").alias("tag"),
        (F.col("raw") == WITHHELD).alias("withheld"),
        "reasons",
    )
    withheld = 0
    for row in tags.collect():
        if row["withheld"]:
            withheld += 1
        else:
            outcomes[_tag(row)].quarantined.append(set(row["reasons"]))
    return Ledger(plan, dict(outcomes), withheld)


def _tag(row: Any) -> str:
    """Return the tag of a row in the lake; a category loses blanks at its ends."""
    return (row["tag"] or "").strip()


def violations(ledger: Ledger, rows: list[Row]) -> list[str]:
    """Return what is wrong with the outcomes of these rows, as text."""
    by_tag: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_tag[row.tag.strip()].append(row)
    secret = bool(ledger.plan.pseudonymise)
    kept = {tag: rows for tag, rows in by_tag.items() if not (secret and rows[0].extra_cells)}
    wrong = [
        f"{tag!r} is in the lake but was not delivered" for tag in ledger.outcomes.keys() - kept
    ]
    withheld = len(by_tag) - len(kept)
    if ledger.withheld != withheld:
        wrong.append(f"{ledger.withheld} rows are withheld, expected {withheld}")
    for tag, sent in kept.items():
        wrong += _violations(ledger.outcomes.get(tag, RowOutcome()), sent)
    return wrong


def _violations(outcome: RowOutcome, sent: list[Row]) -> list[str]:
    row = sent[0]
    about = f"{row.tag!r} {_describe(row)}"
    expected_count = 0 if row.expected_outcomes == {OTHER_NIGHT} else len(sent)
    if outcome.count != expected_count:
        return [f"{about}: expected {expected_count} times, found {outcome.count} times: {outcome}"]
    expected = row.expected_outcomes
    if expected_count == 0 or expected == {ANY_OUTCOME}:
        return []
    if expected == {ACCEPTED}:
        return _violations_of_valid_row(outcome, sent, about)
    missing = [
        why
        for why in expected - {ANY_OUTCOME}
        if any(why not in got for got in outcome.quarantined)
    ]
    if outcome.accepted or missing:
        return [f"{about}: must be quarantined as {sorted(expected)}, but: {outcome}"]
    return []


def _violations_of_valid_row(outcome: RowOutcome, sent: list[Row], about: str) -> list[str]:
    copies = {"identical_duplicate", "duplicate"}
    others = [why for why in outcome.quarantined if not why <= copies]
    if len(outcome.accepted) != 1 or others:
        return [f"{about}: must be accepted once, but: {outcome}"]
    amount, moment = outcome.accepted[0]
    values = sent[0].values
    wrong = []
    if values["amount"].expected_value not in (None, amount):
        wrong.append(f"{about}: its amount became {amount}")
    if values["at"].expected_value not in (None, moment):
        wrong.append(f"{about}: its time became {moment}")
    return wrong


def _describe(row: Row) -> str:
    plain = {name: str(value.content)[:60] for name, value in row.values.items() if name != "tag"}
    return f"{plain}"
