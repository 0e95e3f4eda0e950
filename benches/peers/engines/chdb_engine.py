"""chDB: ClickHouse in the process."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chdb.session import Session

from answers import Row, band_name
from engines import Limits

# Dates as the integer YYYYMMDD: the difference of two holds the age in full years.
_AGE = "toInt32(toYYYYMMDD(date)) - birth"
_BAND = f"toInt8(if({_AGE} BETWEEN 0 AND 1209999, least(intDiv({_AGE}, 100000), 7), -1))"


class ChDb:
    version = version("chdb")

    def __init__(self, limits: Limits) -> None:
        self._session = Session(str(limits.spill / "chdb"))
        settings: dict[str, int] = {"max_threads": limits.threads, "use_hive_partitioning": 1}
        if limits.memory_bytes:
            settings |= {
                "max_memory_usage": limits.memory_bytes,
                "max_bytes_before_external_group_by": limits.memory_bytes // 2,
                "max_bytes_before_external_sort": limits.memory_bytes // 2,
            }
        self._settings = ", ".join(f"{name} = {value}" for name, value in settings.items())

    def attach(self, lake: Path) -> None:
        self._clicks = f"file('{lake}/stage/ticket_clicks/date=*/*.parquet', Parquet)"
        self._logs = f"file('{lake}/stage/web_logs/date=*/*.parquet', Parquet)"
        self._users = f"file('{lake}/dim/users/*.parquet', Parquet)"

    def popularity_of(self, day: date) -> Iterable[Row]:
        rows = self._query(f"""
            SELECT performance_id, uniqExact(user_id) AS visitors, count() AS clicks
            FROM {self._clicks} WHERE date = '{day}' GROUP BY performance_id
            ORDER BY visitors DESC, clicks DESC, performance_id LIMIT 100""")
        return ((day, rank, *row) for rank, row in enumerate(rows, 1))

    def popularity(self) -> Iterable[Row]:
        return _placed(
            1,
            self._query(f"""
            SELECT date, performance_id, uniqExact(user_id) AS visitors, count() AS clicks
            FROM {self._clicks} GROUP BY date, performance_id
            ORDER BY date, visitors DESC, clicks DESC, performance_id LIMIT 100 BY date"""),
        )

    def age_clicks(self) -> Iterable[Row]:
        return _named_bands(
            _placed(
                2,
                self._query(f"""
            SELECT date, {_BAND} AS band, performance_id, count() AS clicks
            FROM {self._with_births()} GROUP BY date, band, performance_id
            ORDER BY date, band, clicks DESC, performance_id LIMIT 10 BY date, band"""),
            )
        )

    def age_visitors(self, top: int, views_only: bool) -> Iterable[Row]:
        where = "WHERE action = 'view'" if views_only else ""
        return _named_bands(
            _placed(
                2,
                self._query(f"""
            SELECT date, {_BAND} AS band, performance_id,
                uniqExact(user_id) AS visitors, count() AS clicks
            FROM {self._with_births(where)} GROUP BY date, band, performance_id
            ORDER BY date, band, visitors DESC, clicks DESC, performance_id
            LIMIT {top} BY date, band"""),
            )
        )

    def web_pages(self) -> Iterable[Row]:
        ranks: Iterable[Any] = _placed(
            1,
            self._query(f"""
            SELECT date, path, count() AS hits, uniqExact(client_ip) AS visitors,
                avg(status >= 500) AS failed_share, quantile(0.95)(latency_ms) AS p95
            FROM {self._logs} GROUP BY date, path
            ORDER BY date, hits DESC, visitors DESC, path LIMIT 100 BY date"""),
        )
        # In its JSON a share of 0.0 is 0.
        return ([*page, float(share), p95] for *page, share, p95 in ranks)

    def regions(self) -> Iterable[Row]:
        self._dictionary("region", "String", "region")
        return _placed(
            2,
            self._query(f"""
            SELECT date, if(user_id IS NULL, 'unknown', {_looked_up("region")}) AS area,
                performance_id, count() AS clicks
            FROM {self._clicks} GROUP BY date, area, performance_id
            ORDER BY date, area, clicks DESC, performance_id LIMIT 10 BY date, area"""),
        )

    def frequent_visitors(self, day: date) -> Iterable[Row]:
        return self._query(f"""
            SELECT user_id, uniqExact(date) AS days_seen, count() AS clicks,
                uniqExact(performance_id) AS performances, countIf(action = 'view') AS views,
                countIf(action = 'like') AS likes, countIf(action = 'buy_link') AS buy_links,
                max(date) AS last_seen
            FROM {self._clicks}
            WHERE user_id IS NOT NULL AND date BETWEEN '{day - timedelta(days=29)}' AND '{day}'
            GROUP BY user_id HAVING days_seen >= 3
            ORDER BY days_seen DESC, clicks DESC, user_id LIMIT 1000""")

    def floor(self) -> Iterable[Row]:
        return self._query(f"SELECT sum(user_id), sum(performance_id) FROM {self._clicks}")

    def _with_births(self, where: str = "") -> str:
        # Without a birth it is 0, which makes an age of 2,000 years.
        birth = "toInt32(ifNull(toYYYYMMDD(birth_date), 0))"
        self._dictionary("birth", "Int32", birth)
        return f"""(SELECT date, performance_id, user_id,
            if(user_id IS NULL, 0, {_looked_up("birth")}) AS birth FROM {self._clicks} {where})"""

    def _dictionary(self, column: str, kind: str, source: str) -> None:
        """A dictionary, loaded at its first use, is much faster here than a join."""
        default = "'unknown'" if kind == "String" else "0"
        rows = f"SELECT toUInt64(user_id) AS user_id, {source} AS {column} FROM {self._users}"
        self._session.query("CREATE DATABASE IF NOT EXISTS peers ENGINE = Atomic")
        self._session.query(f"""
            CREATE DICTIONARY peers.{column} (user_id UInt64, {column} {kind} DEFAULT {default})
            PRIMARY KEY user_id SOURCE(CLICKHOUSE(QUERY $${rows}$$))
            LAYOUT(FLAT(MAX_ARRAY_SIZE 1000000000)) LIFETIME(0)""")

    def _query(self, sql: str) -> list[Any]:
        answer = self._session.query(f"{sql} SETTINGS {self._settings}", "JSONCompactEachRow")
        return [json.loads(line) for line in answer.bytes().splitlines()]


def _looked_up(column: str) -> str:
    return f"dictGet('peers.{column}', '{column}', toUInt64(assumeNotNull(user_id)))"


def _placed(keys: int, rows: Iterable[Any]) -> Iterable[Row]:
    """Rows in the order of their ranks, with the rank behind the `keys` they are ranked in."""
    last, place = None, 0
    for row in rows:
        place = place + 1 if row[:keys] == last else 1
        last = row[:keys]
        yield [*last, place, *row[keys:]]


def _named_bands(rows: Iterable[Any]) -> Iterable[Row]:
    return ([day, band_name(band), *rest] for day, band, *rest in rows)
