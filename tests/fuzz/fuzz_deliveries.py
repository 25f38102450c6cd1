"""Generate deliveries of mutated rows in all three formats, and their mappings.

Every row has a tag of its own in a mapped column, by which it is found again, in `transactions` or
in `raw` of the quarantine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from fuzz_times import Clock, TimesOfNight, day_dates, day_texts, time_stamps, time_texts
from fuzz_values import (
    ACCEPTED,
    ANY_OUTCOME,
    MEGABYTE,
    OTHER_NIGHT,
    Value,
    Values,
    amount_decimals,
    amount_doubles,
    amount_texts,
    examples,
    expected_for_id,
    flags_text,
    ids,
    ignored,
    notes,
    passing,
    risk_doubles,
    risk_floats,
    risk_texts,
)  # fmt: skip
from hypothesis import strategies as st

COLUMNS = ("tag", "id", "at", "card", "shop", "amount", "day", "risk", "note", "fraud", "extra")
FIRST_NIGHT = date(2024, 3, 30)
NIGHTS_PER_PLAN = 3
# First characters of tags: readers have misread lines that begin with these.
TAG_STARTS = ("", "", "", "#", "\x00", " ", "\ufeff", "'", "=", ";")
MAX_VALUES = 1000
NUM_HUGE = 2


@dataclass(frozen=True)
class Row:
    """One delivered row."""

    values: Mapping[str, Value]
    expected: str | None = None
    """None: the outcomes of the values apply."""
    extra_cells: int = 0
    """Number of cells that a CSV record has too many, or too few (negative)."""

    @property
    def tag(self) -> str:
        """Return the tag that identifies the row."""
        return str(self.values["tag"].content)

    @property
    def expected_outcomes(self) -> set[str]:
        """Return ACCEPTED, ANY_OUTCOME, OTHER_NIGHT, or all reasons that must be given."""
        if self.extra_cells:
            return {"malformed_record"}
        if self.expected is not None:
            return {self.expected}
        outcomes = {value.expected for value in self.values.values()} - {ACCEPTED}
        if OTHER_NIGHT in outcomes:
            return {OTHER_NIGHT}
        return outcomes or {ACCEPTED}


@dataclass(frozen=True)
class Plan:
    """One delivery: its format, its types, its mapping and its nights."""

    name: str
    format: str
    number: int
    zone: str
    refunds: str = "refused"
    pseudonymise: tuple[str, ...] = ()
    line_breaks: str = "allowed"
    typed: bool = False
    types: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nights(self) -> tuple[date, ...]:
        """Return the plan's nights; plans follow each other."""
        first = FIRST_NIGHT + timedelta(days=NIGHTS_PER_PLAN * self.number)
        return tuple(first + timedelta(days=n) for n in range(NIGHTS_PER_PLAN))

    @property
    def clock(self) -> Clock:
        """Return the zone of its times."""
        return Clock(ZoneInfo(self.zone), self.nights)

    @property
    def mapping(self) -> dict[str, Any]:
        """Return the mapping as read from TOML."""
        return {
            "name": self.name,
            "currency": "EUR",
            "refunds": self.refunds,
            "zone": self.zone,
            "line_breaks": self.line_breaks,
            "pseudonymise": self.pseudonymise,
            "transactions": {
                "business_date": "day",
                "columns": {
                    "transaction_id": "id", "event_time": "at", "card_id": "card",
                    "merchant_id": "shop", "amount": "amount",
                },
                "attributes": {"tag": "categorical", "risk": "numeric", "note": "categorical"},
            },
            "labels": {
                "completeness": "frauds_only", "maturity_days": 30, "label_delay_days": 7,
                "columns": {"is_fraud": "fraud"},
            },
        }  # fmt: skip


NAIVE, ZONED = pa.timestamp("us"), pa.timestamp("us", "UTC")
PLANS = (
    Plan("csv_paris", "csv", 0, "Europe/Paris"),
    # Clocks go forward by two hours there on 2024-03-31.
    Plan("csv_secret", "csv", 1, "Antarctica/Troll", "negative",
         ("transaction_id", "card_id", "merchant_id"), "refused"),
    # Clocks go back by half an hour there on 2024-04-07.
    Plan("parquet_text", "parquet", 2, "Australia/Lord_Howe", "negative"),
    Plan("parquet_typed", "parquet", 3, "Australia/Sydney", typed=True, types={
        "id": pa.int64(), "at": NAIVE, "card": pa.decimal128(20, 0), "amount": pa.float64(),
        "day": pa.date32(), "risk": pa.float32(), "fraud": pa.bool_()}),
    Plan("delta_typed", "delta", 4, "Asia/Tokyo", typed=True, types={
        "at": ZONED, "card": pa.int64(), "amount": pa.decimal128(38, 10), "day": pa.date32(),
        "risk": pa.float64(), "fraud": pa.int32()}),
)  # fmt: skip


# -- rows ----------------------------------------------------------------------------------------


def rows_of(plan: Plan, num_rows: int, seed_value: int) -> list[Row]:
    """Return the mutated rows of a delivery, and a tenth more of valid rows and their copies."""
    chance = random.Random(f"{seed_value} {plan.name}")
    pools = _Pools(plan, min(MAX_VALUES, num_rows // 4), seed_value)
    rows = [pools.mutated(number, chance) for number in range(num_rows)]
    for number in range(num_rows, num_rows + max(8, num_rows // 10)):
        rows += pools.valid_rows(number, chance)
    rows += [pools.huge(number, column) for column in pools.texts for number in range(NUM_HUGE)]
    chance.shuffle(rows)
    return rows


class _Pools:
    """Generated values by column."""

    def __init__(self, plan: Plan, count: int, seed_value: int) -> None:
        self.plan = plan
        values = {
            name: examples(some, count, seed_value) for name, some in _strategies(plan).items()
        }
        self.by_column: dict[str, list[Value]] = {
            name: self._usable(v) for name, v in values.items()
        }
        times = _times(plan)
        self.times = {
            night: self._usable(examples(times(night), count, seed_value)) for night in plan.nights
        }
        self.texts = [name for name in ("card", "shop", "note") if name not in plan.types]

    def _usable(self, values: list[Value]) -> list[Value]:
        if self.plan.format != "csv":
            return values
        if self.plan.line_breaks == "refused":
            values = [v for v in values if not _has_line_break(v.content)]
        return [replace(v, expected=ANY_OUTCOME) if _loses_nuls(v.content) else v for v in values]

    def valid_values(self, number: int, night: date) -> dict[str, Value]:
        """Return the values of a valid row."""
        tag = f"{TAG_STARTS[number % len(TAG_STARTS)]}{self.plan.name}-{number}"
        moment = datetime.combine(night, time(3, 30), UTC) - timedelta(seconds=number % 80_000)
        local = moment.astimezone(self.plan.clock.zone).replace(tzinfo=None, fold=0)
        types = self.plan.types
        texts: dict[str, Any] = {
            "tag": tag, "id": f"t {number} {tag}", "at": local.isoformat(" "), "card": f"c{number}",
            "shop": "m", "amount": "12.34", "day": str(night), "risk": "0.5", "note": "web",
            "fraud": str(number % 2), "extra": "x",
        }  # fmt: skip
        typed = {
            "id": number, "at": local if types.get("at") == NAIVE else moment, "card": number,
            "amount": Decimal("12.34") if types.get("amount") != pa.float64() else 12.34,
            "day": night, "risk": 0.5,
            "fraud": number % 2 if types.get("fraud") == pa.int32() else bool(number % 2),
        }  # fmt: skip
        chosen = {name: typed[name] if name in types else texts[name] for name in COLUMNS}
        values = {name: Value(content, ACCEPTED) for name, content in chosen.items()}
        return {**values, "amount": Value(chosen["amount"], ACCEPTED, Decimal("12.340")),
                "at": self.plan.clock.local_value(local, chosen["at"], night)}  # fmt: skip

    def mutated(self, number: int, chance: random.Random) -> Row:
        """Return a row with one to three mutated columns, or with a wrong number of cells."""
        night = chance.choice(self.plan.nights)
        values = self.valid_values(number, night)
        if self.plan.format == "csv" and chance.random() < 0.03:
            return Row(values, extra_cells=chance.choice((-6, -2, -1, 1, 2, 5)))
        names = [name for name in COLUMNS if name != "tag"]
        for name in chance.sample(names, chance.choice((1, 1, 1, 2, 2, 3))):
            pool = self.times[night] if name == "at" else self.by_column[name]
            values[name] = chance.choice(pool)
        values["id"] = self._own_id(values["id"], values["tag"].content)
        if values["day"].expected != ACCEPTED:
            # The outcome of a time depends on the night, which is not known for this row.
            values["at"] = replace(values["at"], expected=ACCEPTED, expected_value=None)
        return Row(values)

    def _own_id(self, value: Value, tag: str) -> Value:
        """Append the tag to valid ids, so that no two rows share one."""
        if value.expected != ACCEPTED or "id" in self.plan.types or value.content.endswith(tag):
            return value
        text = f"{value.content}{tag}"
        secret = "transaction_id" in self.plan.pseudonymise
        return Value(text, expected_for_id(text, "", pseudonymised=secret))

    def valid_rows(self, number: int, chance: random.Random) -> list[Row]:
        """Return a valid row, alone or with copies of every kind."""
        night = self.plan.nights[chance.randrange(NIGHTS_PER_PLAN - 1)]
        values = self.valid_values(number, night)
        kind = chance.choice(("alone", "identical", "conflict", "later"))
        if kind == "identical":
            return [Row(values)] * 3
        if kind == "later":
            next_night = night + timedelta(days=1)
            day = next_night if "day" in self.plan.types else str(next_night)
            return [Row(values), Row({**values, "day": Value(day, ACCEPTED)})]
        if kind == "conflict":
            other = {**values, "shop": Value("another", ACCEPTED)}
            return [Row(v, expected="conflicting_duplicate") for v in (values, other)]
        return [Row(values)]

    def huge(self, number: int, column: str) -> Row:
        """Return a row with a megabyte of text in one column."""
        name = {"card": "card_id", "shop": "merchant_id"}.get(column)
        secret = name in self.plan.pseudonymise
        expected = ACCEPTED if name is None or secret else "oversized_id"
        night = self.plan.nights[0]
        values = self.valid_values(10_000_000 + 10 * number + self.texts.index(column), night)
        return Row({**values, column: Value("ä<b>" * (MEGABYTE // 4), expected)})


def _loses_nuls(content: Any) -> bool:
    """Return whether Spark's CSV reader drops NULs: it does in fields with quotes."""
    return isinstance(content, str) and "\x00" in content and '"' in content


def _has_line_break(content: Any) -> bool:
    text = content.decode("latin-1") if isinstance(content, bytes) else content
    return isinstance(text, str) and ("\n" in text or "\r" in text)


def _strategies(plan: Plan) -> dict[str, Values]:
    """Return the generators of every column except tag and time."""

    def of_id(name: str) -> Values:
        return ids(f"missing_{name}", pseudonymised=name in plan.pseudonymise)

    generators = {
        "id": of_id("transaction_id"), "card": of_id("card_id"), "shop": of_id("merchant_id"),
        "amount": amount_texts(plan.refunds), "day": day_texts(plan.nights), "risk": risk_texts(),
        "note": notes(), "fraud": flags_text(), "extra": ignored(),
    }  # fmt: skip
    return {**generators, **{name: _typed(plan)[name] for name in plan.types if name != "at"}}


def _typed(plan: Plan) -> dict[str, Values]:
    amounts = {pa.float64(): amount_doubles, pa.decimal128(38, 10): amount_decimals}
    numbers = st.one_of(
        # Above the numbers of valid rows.
        st.integers(10**9, 2**63 - 1).map(lambda n: Value(n, ANY_OUTCOME)),
        st.just(Value(4111111111111111, "card_number_in_id")),
        st.integers(-(2**63), -1).map(Value),
    )
    missing = {"id": "missing_transaction_id", "card": "missing_card_id"}
    absent = {name: st.just(Value(None, why)) for name, why in missing.items()}
    flags = {pa.bool_(): st.booleans(), pa.int32(): st.sampled_from((0, 1, 2, -1))}
    return {
        "id": st.one_of(numbers, absent["id"]),
        "card": st.one_of(numbers, absent["card"]),
        "amount": amounts.get(plan.types.get("amount"), amount_doubles)(plan.refunds),
        "day": day_dates(plan.nights),
        "risk": risk_floats() if plan.types.get("risk") == pa.float32() else risk_doubles(),
        "fraud": passing(st.one_of(st.none(), flags.get(plan.types.get("fraud"), st.none()))),
    }


def _times(plan: Plan) -> TimesOfNight:
    if not plan.typed:
        return time_texts(plan.clock)
    return time_stamps(plan.clock, with_zone=plan.types["at"] == ZONED)
