"""A mapping to begin with, as TOML with a comment for every decision: what was seen, what to check.

What cannot be told from the sample is left empty, so that the mapping is refused until a person
has decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feature_defs.attributes import STANDARD_ATTRIBUTES
from feature_defs.feature import Kind
from jobs.deliveries.column_profile import ColumnProfile, Notation
from jobs.deliveries.mapping import FORBIDDEN_IN_COLUMN_NAMES
from jobs.deliveries.role_candidates import (
    CURRENCY,
    FRAUD,
    FRAUD_WORDS,
    LABEL_TIME,
    MAX_CATEGORIES,
    ROLES,
    candidates,
    is_flag,
    says_what_is_fraud,
    standard_attribute,
)
from jobs.deliveries.sample import Sample

# Days until a label is known, if no column says it: to be checked in any case.
LABEL_DELAY_DAYS = 7
MAX_SHOWN = 3
# Values of a column with more than these are not shown, unless they are times or amounts.
MAX_VALUES_SHOWN = 50


def propose(sample: Sample, name: str) -> str:
    """Return the text of a mapping for the source that the sample is from."""
    return "\n".join(Proposal.of(sample).lines(name)) + "\n"


@dataclass(frozen=True)
class Proposal:
    """The columns of a sample, and those that may have each role."""

    sample: Sample
    columns: tuple[ColumnProfile, ...]
    roles: dict[str, list[ColumnProfile]]

    @classmethod
    def of(cls, sample: Sample) -> Proposal:
        """Profile the columns and find the candidates of every role."""
        columns = tuple(
            ColumnProfile(
                name,
                sample.types[name],
                tuple(value for value in values if value is not None and value.strip()),
                sample.num_rows,
            )
            for name, values in sample.columns.items()
        )
        roles: dict[str, list[ColumnProfile]] = {}
        free = list(columns)
        # A fraud flag and a currency are the easiest to tell; what they take, no other role gets.
        for role in (FRAUD, CURRENCY, LABEL_TIME, *ROLES):
            roles[role.name] = candidates(role, free)
            free = [column for column in free if column not in roles[role.name][:1]]
        return cls(sample, columns, roles)

    def chosen(self, role: str) -> ColumnProfile | None:
        """Return the likeliest column of a role."""
        return self.roles[role][0] if self.roles[role] else None

    # -- the file --------------------------------------------------------------------------------

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of the mapping."""
        yield f"# Written from the first {self.sample.num_rows:,} rows of {self.sample.file}."
        yield "# Check every line. A value that is empty has to be filled in."
        yield f"name = {_quoted(name)}"
        yield from self._currency()
        yield from self._refunds()
        yield 'zone = "UTC"  # CHECK: the zone of times that have none'
        yield from self._format()
        yield from self._transactions()
        yield from self._attributes()
        yield from self._labels()

    def _currency(self) -> Iterator[str]:
        column = self.chosen("currency")
        codes = [code.strip().upper() for code, _ in column.counts.most_common()] if column else []
        if not codes:
            yield 'currency = ""  # FILL IN: no column names it, such as "EUR"'
            return
        others = f"; {len(codes) - 1} others need [currencies]" if len(codes) > 1 else ""
        yield f"currency = {_quoted(codes[0])}  # the most frequent one{others}"

    def _refunds(self) -> Iterator[str]:
        amount = self.chosen("amount")
        negative = amount is not None and amount.has_negatives
        seen = "negative amounts were seen" if negative else "no negative amount was seen"
        yield f'refunds = "{"negative" if negative else "refused"}"  # {seen}'

    def _format(self) -> Iterator[str]:
        sample, lines = self.sample, []
        if sample.delimiter != ",":
            lines.append(f"delimiter = {_quoted(sample.delimiter)}")
        if sample.encoding != "utf-8":
            check = "" if sample.encoding.startswith("utf") else "  # CHECK letters such as é and €"
            lines.append(f"encoding = {_quoted(sample.encoding)}{check}")
        lines += [*self._number_notation(), *self._time_notation()]
        if lines:
            yield from ("", "[format]", *lines)

    def _number_notation(self) -> Iterator[str]:
        amount = self.chosen("amount")
        notations: Sequence[Notation] = amount.number_notations if amount else ()
        if not notations or (".", None) in notations:
            return
        decimal, thousands = notations[0]
        yield f"decimal = {_quoted(decimal)}"
        if thousands is not None:
            yield f"thousands = {_quoted(thousands)}"
        if len(notations) > 1:
            others = ", ".join(f"{d} with groups by {t}" for d, t in notations[1:])
            yield f"# CHECK: every amount could be read otherwise too: {others}"

    def _time_notation(self) -> Iterator[str]:
        time = self.chosen("event_time")
        notations = time.time_notations if time else []
        if not time or notations[0] == "iso":
            return
        if len(notations) > 1:
            yield f'times = ""  # FILL IN: every time could be one of {", ".join(notations)}'
        else:
            yield f"times = {_quoted(notations[0])}  # such as {time.values[0]}"

    def _transactions(self) -> Iterator[str]:
        yield from ("", "[transactions]")
        if self.sample.partition:
            yield f"business_date = {_quoted(self.sample.partition)}  # the folders' name"
        else:
            yield 'business_date = "event_date"  # or a column with the date of the delivery'
        yield from ("", "[transactions.columns]")
        for role in ROLES:
            yield self._role(role.name)
        if self.chosen("currency"):
            yield self._role("currency")

    def _role(self, role: str) -> str:
        found = self.roles[role]
        if not found:
            names = ", ".join(_printable(column.name) for column in self.columns)
            return f'{role} = ""  # FILL IN: no column looks like it; there are {names}'
        names = ", ".join(_printable(column.name) for column in found[1 : 1 + MAX_SHOWN])
        others = f"; or {names}" if names else ""
        return f"{role} = {_quoted(found[0].name)}  # {_seen(found[0])}{others}"

    def _attributes(self) -> Iterator[str]:
        used = {column.name for role in self.roles for column in [self.chosen(role)] if column}
        rest = [column for column in self.columns if column.name not in used]
        if not rest:
            return
        yield from ("", "[transactions.attributes]")
        taken: set[str] = set()
        for column in rest:
            attribute = standard_attribute(column)
            name = attribute if attribute and attribute not in taken else _own_name(column.name)
            taken.add(name)
            yield _attribute_line(name, column)

    def _labels(self) -> Iterator[str]:
        flag = self.chosen("is_fraud")
        if flag is None:
            yield from (
                "",
                "# No column looks like a fraud flag. Add [labels] for labels elsewhere.",
            )
            return
        time = self.chosen("label_time")
        yield from ("", "[labels]")
        yield 'completeness = "complete"  # CHECK: or "frauds_only" with maturity_days'
        if time is None:
            yield f"label_delay_days = {LABEL_DELAY_DAYS}  # CHECK: days until a label is known"
        yield from ("", "[labels.columns]")
        yield f"is_fraud = {_quoted(flag.name)}  # {_seen(flag)}"
        if time is not None:
            yield f"label_time = {_quoted(time.name)}  # {_seen(time)}"
        plain = {"0", "1", "0.0", "1.0", "true", "false"}
        if is_flag(flag) and not {value.strip().lower() for value in flag.counts} <= plain:
            fraud = [v for v in sorted(flag.counts) if v.strip().lower() in FRAUD_WORDS]
            genuine = [v for v in sorted(flag.counts) if v not in fraud]
            yield from ("", "[labels.values]  # CHECK")
            yield f"fraud = {json.dumps(fraud, ensure_ascii=False)}"
            yield f"genuine = {json.dumps(genuine, ensure_ascii=False)}"


def _attribute_line(name: str, column: ColumnProfile) -> str:
    """Return the line of an attribute; commented out where keeping it is of no use."""
    known = STANDARD_ATTRIBUTES.get(name)
    if known is not None:
        numeric = known.kind is not Kind.CATEGORY
    else:
        numeric = column.has_decimals or (
            column.is_number_type and len(column.counts) > MAX_CATEGORIES // 100
        )
    kind = "numeric" if numeric else "categorical"
    line = f'{name} = {{ column = {_quoted(column.name)}, kind = "{kind}" }}  # {_seen(column)}'
    if says_what_is_fraud(column):
        return f"# {line}; it may say what only an investigation found"
    if len(column.counts) <= 1:
        return f"# {line}; it never changes"
    if not numeric and len(column.counts) > min(MAX_CATEGORIES, column.num_rows // 2):
        return f"# {line}; nearly every row has its own value"
    return line


def _seen(column: ColumnProfile) -> str:
    """Return what was seen of a column, in a few words."""
    empty = f", {column.empty_share:.1%} empty" if column.empty_share else ""
    values = "every value different" if column.is_unique else f"{len(column.counts):,} values"
    number_or_time = column.time_notations or column.has_decimals
    if len(column.counts) > MAX_VALUES_SHOWN and not number_or_time:
        # An id, a name or an address: nobody's data belong into a mapping.
        return f"{column.type}, {values}{empty}"
    shown = (_printable(value)[:20] for value, _ in column.counts.most_common(MAX_SHOWN))
    return f"{column.type}, {values}{empty}: {', '.join(shown)}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text.strip())


def _own_name(column: str) -> str:
    name = "".join("_" if letter in FORBIDDEN_IN_COLUMN_NAMES else letter for letter in column)
    return name if name.isidentifier() and name.isascii() else _quoted(name)


def _quoted(text: str) -> str:
    # JSON's strings are TOML's too.
    return json.dumps(text, ensure_ascii=False)
