"""Where every delivered row went: once into `transactions` or `quarantine`, and for its reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from fuzz_deliveries import Plan, Row
from fuzz_values import EITHER, ELSEWHERE, PASSES
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

MOST_NAMED = 5


@dataclass
class Fate:
    """What the lake has of one tag."""

    accepted: list[tuple[Decimal, datetime]] = field(default_factory=list)
    refused: list[set[str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How often it is there."""
        return len(self.accepted) + len(self.refused)


@dataclass
class Ledger:
    """The fates of one delivery."""

    plan: Plan
    fates: dict[str, Fate]
    withheld: int
    """Refused rows whose columns the quarantine does not keep."""

    @property
    def num_accepted(self) -> int:
        """Rows in `transactions`."""
        return sum(len(fate.accepted) for fate in self.fates.values())

    @property
    def num_refused(self) -> int:
        """Rows in `quarantine`."""
        return sum(len(fate.refused) for fate in self.fates.values()) + self.withheld

    def by_reason(self) -> Counter[str]:
        """Refused rows by rule; a row that breaks several counts for each."""
        found = Counter(r for fate in self.fates.values() for why in fate.refused for r in why)
        return found + Counter({"malformed_record": self.withheld})


def read_ledger(lake: Lake, plan: Plan) -> Ledger:
    """Look a delivery's rows up in the lake's tables."""
    from jobs.lake.tables import QUARANTINE, TRANSACTIONS
    from jobs.quality.rows.quarantine import WITHHELD

    ours = F.col("business_date").between(F.lit(plan.nights[0]), F.lit(plan.nights[-1]))
    fates: dict[str, Fate] = defaultdict(Fate)
    micros = F.unix_micros("event_time").alias("micros")
    for row in lake.read(TRANSACTIONS).where(ours).select("tag", "amount", micros).collect():
        moment = datetime.fromtimestamp(row["micros"] // 1_000_000, UTC)
        moment = moment.replace(microsecond=row["micros"] % 1_000_000)
        fates[row["tag"]].accepted.append((row["amount"], moment))
    refused = lake.read(QUARANTINE).where(ours & F.col("source").endswith("#transactions"))
    tags = refused.select(
        F.get_json_object("raw", "$.tag").alias("tag"),
        (F.col("raw") == WITHHELD).alias("withheld"),
        "reasons",
    )
    withheld = 0
    for row in tags.collect():
        if row["withheld"]:
            withheld += 1
        else:
            fates[row["tag"]].refused.append(set(row["reasons"]))
    return Ledger(plan, dict(fates), withheld)


def complaints(ledger: Ledger, rows: list[Row]) -> list[str]:
    """What is wrong with the fates of these rows; nothing when each went where it should."""
    by_tag: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_tag[row.tag].append(row)
    secret = bool(ledger.plan.pseudonymise)
    kept = {tag: rows for tag, rows in by_tag.items() if not (secret and rows[0].damage)}
    wrong = [f"{tag!r} is in the lake and was never sent" for tag in ledger.fates.keys() - kept]
    withheld = len(by_tag) - len(kept)
    if ledger.withheld != withheld:
        wrong.append(f"{ledger.withheld} rows are withheld, of {withheld} that were damaged")
    for tag, sent in kept.items():
        wrong += _complaints(ledger.fates.get(tag, Fate()), sent)
    return wrong


def _complaints(fate: Fate, sent: list[Row]) -> list[str]:
    row = sent[0]
    about = f"{row.tag!r} {_shown(row)}"
    here = 0 if row.verdicts == {ELSEWHERE} else len(sent)
    if fate.count != here:
        return [f"{about}: sent {here} times and found {fate.count} times: {fate}"]
    must = row.verdicts
    if here == 0 or must == {EITHER}:
        return []
    if must == {PASSES}:
        return _complaints_of_good(fate, sent, about)
    lacking = [why for why in must - {EITHER} if any(why not in got for got in fate.refused)]
    if fate.accepted or lacking:
        return [f"{about}: should be refused as {sorted(must)}, and: {fate}"]
    return []


def _complaints_of_good(fate: Fate, sent: list[Row], about: str) -> list[str]:
    copies = {"identical_duplicate", "duplicate"}
    others = [why for why in fate.refused if not why <= copies]
    if len(fate.accepted) != 1 or others:
        return [f"{about}: should be accepted once, and: {fate}"]
    amount, moment = fate.accepted[0]
    values = sent[0].values
    wrong = []
    if values["amount"].read not in (None, amount):
        wrong.append(f"{about}: its amount became {amount}")
    if values["at"].read not in (None, moment):
        wrong.append(f"{about}: its time became {moment}")
    return wrong


def _shown(row: Row) -> str:
    plain = {name: str(value.content)[:60] for name, value in row.values.items() if name != "tag"}
    return f"{plain}"
