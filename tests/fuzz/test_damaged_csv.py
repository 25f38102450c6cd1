"""However quotes are misplaced in a CSV file, no row disappears without a word.

Small files, each line with a mark of its own, get quotes where none belong or lose some. A record
that the reader did not complain of must come of one line; every mark must be somewhere.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fuzz_values import examples
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.source import Delivery, read_source, transactions_of
from jobs.lake.dates import Dates

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

NUM_FILES, NUM_LINES, SEED = 300, 5, 20240331
DAY = date(2024, 3, 31)
MARK = re.compile(r"<[0-9]+-[0-9]+>")
CELLS = st.sampled_from(("web", '"a,b"', '"say ""hi"""', "", '""', "x y", '"end"'))
MAPPING = Mapping.model_validate(
    {
        "name": "damaged",
        "currency": "EUR",
        "refunds": "refused",
        "transactions": {
            "business_date": "event_date",
            "columns": {
                "transaction_id": "id", "event_time": "a", "card_id": "b", "merchant_id": "c",
                "amount": "d",
            },
        },
    }
)  # fmt: skip


def damaged(cells: list[list[str]], number: int, chance: random.Random) -> str:
    """A file with one to three quotes too many or too few; marks stay whole."""
    lines = [",".join((f"<{number}-{nth}>", *row)) for nth, row in enumerate(cells)]
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        nth = chance.randrange(len(lines))
        line = lines[nth]
        quotes = [place for place, sign in enumerate(line) if sign == '"']
        if quotes and chance.random() < 0.4:
            place = chance.choice(quotes)
            lines[nth] = line[:place] + line[place + 1 :]
        else:
            mark = MARK.search(line)
            assert mark is not None
            places = [*range(mark.start() + 1), *range(mark.end(), len(line) + 1)]
            place = chance.choice(places)
            lines[nth] = f'{line[:place]}"{line[place:]}'
    return "\n".join(["id,a,b,c,d", *lines]) + "\n"


def test_no_row_disappears_behind_a_quote(spark: SparkSession, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    rows = st.lists(CELLS, min_size=4, max_size=4)
    made = examples(st.lists(rows, min_size=NUM_LINES, max_size=NUM_LINES), NUM_FILES, SEED)
    for number, cells in enumerate(made):
        text = damaged(cells, number, chance)
        (tmp_path / f"{number}.csv").write_text(text, encoding="utf-8")
    delivery = Delivery(str(tmp_path), "csv", MAPPING)
    records = read_source(spark, delivery, transactions_of(delivery), Dates(DAY, DAY))
    complained = F.col("malformed_record").isNotNull() | F.col("of_many_lines")
    whole = F.concat_ws("\n", F.to_json("raw"), "malformed_record")
    found = records.select(
        F.col("raw.id").alias("id"), whole.alias("whole"), complained.alias("complained")
    ).collect()
    seen: dict[str, int] = defaultdict(int)
    silent = 0
    for row in found:
        marks = set(MARK.findall(row["whole"]))
        for mark in marks:
            seen[mark] += 1
        if not row["complained"]:
            silent += 1
            assert len(marks) == 1, row
            assert marks.pop() in row["id"], row
    sent = {f"<{number}-{nth}>" for number in range(len(made)) for nth in range(NUM_LINES)}
    assert set(seen) == sent
    # The damage is neither everywhere nor nowhere.
    assert len(sent) / 2 < silent < len(found)
