"""Spark in one process, `local[threads]`. The session's start, some 5 to 10 s, is not timed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

import java
from answers import Row
from engines import Limits
from engines.standard_sql import StandardSql

_ENOUGH_MEMORY_BYTES = 8 << 30


class Spark(StandardSql):
    version = pyspark.__version__
    p95 = "approx_percentile(latency_ms, 0.95)"
    # Some millions of users fit a broadcast; Spark's own limit of 10 MB would sort and merge.
    join_hint = "/*+ BROADCAST(u) */"

    def __init__(self, limits: Limits) -> None:
        os.environ["JAVA_HOME"] = str(java.home(limits.spill))
        # The machine's name need not resolve.
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        memory_mib = (limits.memory_bytes or _ENOUGH_MEMORY_BYTES) >> 20
        settings: dict[str, bool | float | int | str | None] = {
            "spark.driver.memory": f"{memory_mib}m",
            "spark.sql.adaptive.enabled": "true",
            # One task for each core and one to even out: the default of 200 costs seconds.
            "spark.sql.shuffle.partitions": str(2 * limits.threads),
            "spark.sql.session.timeZone": "UTC",
            "spark.local.dir": str(limits.spill),
            "spark.sql.warehouse.dir": str(limits.spill / "warehouse"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
        }
        builder = SparkSession.builder.master(f"local[{limits.threads}]")
        self._session = builder.config(map=settings).getOrCreate()

    def attach(self, lake: Path) -> None:
        for table, path in (
            ("clicks", "stage/ticket_clicks"),
            ("logs", "stage/web_logs"),
            ("users", "dim/users"),
        ):
            self._session.read.parquet(f"{lake}/{path}/").createOrReplaceTempView(table)

    def query(self, sql: str) -> Sequence[Row]:
        return [tuple(row) for row in self._session.sql(sql).collect()]
