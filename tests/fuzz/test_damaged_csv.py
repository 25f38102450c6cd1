"""No row is lost silently, however quotes are misplaced in a CSV file.

Small files, each line with a mark of its own, get extra quotes or lose some. A record that the
reader does not flag must come from one line, and every mark must be in some record.
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
from jobs.deliveries.reading import read_source
from jobs.deliveries.source import Delivery, transactions_of
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
    """Return a file with one to three quotes too many or too few; marks stay intact."""
    lines = [",".join((f"<{number}-{nth}>", *row)) for nth, row in enumerate(cells)]
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        nth = chance.randrange(len(lines))
        line = lines[nth]
        quotes = [at for at, character in enumerate(line) if character == '"']
        if quotes and chance.random() < 0.4:
            at = chance.choice(quotes)
            lines[nth] = line[:at] + line[at + 1 :]
        else:
            mark = MARK.search(line)
            assert mark is not None
            positions = [*range(mark.start() + 1), *range(mark.end(), len(line) + 1)]
            at = chance.choice(positions)
            lines[nth] = f'{line[:at]}"{line[at:]}'
    return "\n".join(["id,a,b,c,d", *lines]) + "\n"


def test_misplaced_quotes_lose_no_row(spark: SparkSession, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    rows = st.lists(CELLS, min_size=4, max_size=4)
    files = examples(st.lists(rows, min_size=NUM_LINES, max_size=NUM_LINES), NUM_FILES, SEED)
    for number, cells in enumerate(files):
        text = damaged(cells, number, chance)
        (tmp_path / f"{number}.csv").write_text(text, encoding="utf-8")
    delivery = Delivery(str(tmp_path), "csv", MAPPING)
    records = read_source(spark, delivery, transactions_of(delivery), Dates(DAY, DAY))
    flagged = F.col("malformed_record").isNotNull() | F.col("is_multiline")
    whole = F.concat_ws("\n", F.to_json("raw"), "malformed_record")
    rows_read = records.select(
        F.col("raw.id").alias("id"), whole.alias("whole"), flagged.alias("flagged")
    ).collect()
    seen: dict[str, int] = defaultdict(int)
    num_unflagged = 0
    for row in rows_read:
        marks = set(MARK.findall(row["whole"]))
        for mark in marks:
            seen[mark] += 1
        if not row["flagged"]:
            num_unflagged += 1
            assert len(marks) == 1, row
            assert marks.pop() in row["id"], row
    sent = {f"<{number}-{nth}>" for number in range(len(files)) for nth in range(NUM_LINES)}
    assert set(seen) == sent
    # Some records are damaged, and some are not.
    assert len(sent) / 2 < num_unflagged < len(rows_read)
