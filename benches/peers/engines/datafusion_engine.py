"""DataFusion, as its Python package gives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datafusion
import pyarrow

from answers import Row
from engines import Limits
from engines.standard_sql import StandardSql


class DataFusion(StandardSql):
    version = datafusion.__version__
    # count(DISTINCT text) keeps a hash set for each group: ten times slower here, and 19 GB.
    pages = """
        SELECT date, path, sum(hits) AS hits, count(*) AS visitors,
            cast(sum(failed) AS double) / sum(hits) AS failed_share
        FROM (
            SELECT date, path, client_ip, count(*) AS hits,
                sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END) AS failed
            FROM logs GROUP BY date, path, client_ip)
        GROUP BY date, path"""

    def __init__(self, limits: Limits) -> None:
        config = datafusion.SessionConfig().with_target_partitions(limits.threads)
        runtime = datafusion.RuntimeEnvBuilder().with_disk_manager_specified(str(limits.spill))
        if limits.memory_bytes:
            runtime = runtime.with_fair_spill_pool(limits.memory_bytes)
        self._context = datafusion.SessionContext(config, runtime)

    def attach(self, lake: Path) -> None:
        by_date = [("date", pyarrow.date32())]
        for table, folder in (("clicks", "ticket_clicks"), ("logs", "web_logs")):
            path = f"{lake}/stage/{folder}/"
            self._context.register_parquet(table, path, table_partition_cols=by_date)
        self._context.register_parquet("users", f"{lake}/dim/users/")

    def query(self, sql: str) -> Sequence[Row]:
        return [tuple(row.values()) for row in self._context.sql(sql).to_pylist()]
