"""Spark's side: the clicks' eight columns with `range` and `rand`, some skew, as zstd Parquet by date.

Prints {"seconds": …} of the writing, without the session's start.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))

from engines import Limits  # noqa: E402
from engines.spark_engine import Spark  # noqa: E402

# Cheaper than rankmill's: no sessions, no charts, no bots; the cube stands for skew.
_CLICKS = """
SELECT id AS click_id,
       timestamp_micros(1780239600000000 + CAST(id * 86400000000.0 * {days} / {rows} AS BIGINT)) AS clicked_at,
       CASE WHEN rand(1) < 0.2 THEN NULL ELSE CAST(1 + rand(2) * 4000000 AS BIGINT) END AS user_id,
       CAST(1 + rand(3) * {rows} / 5 AS BIGINT) AS session_id,
       CAST(1 + pow(rand(4), 3) * 20000 AS INT) AS performance_id,
       element_at(array('view', 'view', 'view', 'search', 'like'), CAST(1 + rand(5) * 5 AS INT)) AS action,
       element_at(array('interpark', 'melon', 'yes24', 'ticketlink'), CAST(1 + rand(6) * 4 AS INT)) AS platform,
       element_at(array('android', 'ios', 'pc', 'tablet'), CAST(1 + rand(7) * 4 AS INT)) AS device,
       date_add(DATE '2026-06-01', CAST(id * {days} / {rows} AS INT)) AS date
FROM range(0, {rows}, 1, {partitions})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rankmill-spark-") as scratch:
        spark = Spark(Limits(threads=args.threads, memory_bytes=None, spill=Path(scratch)))
        session = spark._session
        session.conf.set("spark.sql.parquet.compression.codec", "zstd")
        session.sparkContext._jsc.hadoopConfiguration().set("parquet.compression.codec.zstd.level", "1")
        # Partitions follow the dates, so each writes few files.
        query = _CLICKS.format(rows=args.rows, days=args.days, partitions=2 * args.days)
        begin = time.monotonic()
        session.sql(query).write.partitionBy("date").parquet(str(args.out / "clicks"))
        seconds = time.monotonic() - begin
        session.stop()
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
