"""The questions in the SQL that DuckDB, DataFusion and Spark share. Tables: clicks, users, logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from answers import Row, band_name

# Dates as the integer YYYYMMDD: the difference of two holds the age in full years, and the
# births' side is computed once a user, not once a click.
_DAY = "extract(year from {0}) * 10000 + extract(month from {0}) * 100 + extract(day from {0})"
_BIRTHS = f"(SELECT user_id, cast({_DAY.format('birth_date')} AS int) AS birth FROM users)"
# -1 for a birth that is not known, after the date, or more than 120 years before it.
_BAND = """cast(CASE WHEN age >= 0 AND age < 100000 THEN 0
    WHEN age >= 100000 AND age < 200000 THEN 1 WHEN age >= 200000 AND age < 300000 THEN 2
    WHEN age >= 300000 AND age < 400000 THEN 3 WHEN age >= 400000 AND age < 500000 THEN 4
    WHEN age >= 500000 AND age < 600000 THEN 5 WHEN age >= 600000 AND age < 700000 THEN 6
    WHEN age >= 700000 AND age < 1210000 THEN 7 ELSE -1 END AS tinyint)"""


class StandardSql:
    """Subclasses have `query`, and say where their dialect or their best way differs."""

    p95 = "approx_percentile_cont(latency_ms, 0.95)"
    join_hint = ""
    pages = """
        SELECT date, path, count(*) AS hits, count(DISTINCT client_ip) AS visitors,
            avg(CASE WHEN status >= 500 THEN 1e0 ELSE 0e0 END) AS failed_share
        FROM logs GROUP BY date, path"""

    def query(self, sql: str) -> Sequence[Row]:
        raise NotImplementedError

    def popularity_of(self, day: date) -> Iterable[Row]:
        rows = self.query(f"""
            SELECT performance_id, count(DISTINCT user_id) AS visitors, count(*) AS clicks
            FROM clicks WHERE date = date '{day}' GROUP BY performance_id
            ORDER BY visitors DESC, clicks DESC, performance_id LIMIT 100""")
        return ((day, rank, *row) for rank, row in enumerate(rows, 1))

    def popularity(self) -> Iterable[Row]:
        return self.query(f"""
            WITH counted AS (
                SELECT date, performance_id, count(DISTINCT user_id) AS visitors,
                    count(*) AS clicks
                FROM clicks GROUP BY date, performance_id)
            {ranked("date", "performance_id", ["visitors", "clicks"], 100)}""")

    def age_clicks(self) -> Iterable[Row]:
        return named_bands(
            self.query(f"""
            WITH banded AS ({self.banded("clicks")}),
            counted AS (
                SELECT date, band, performance_id, count(*) AS clicks
                FROM banded GROUP BY date, band, performance_id)
            {ranked("date, band", "performance_id", ["clicks"], 10)}""")
        )

    def age_visitors(self, top: int, views_only: bool) -> Iterable[Row]:
        clicks = "(SELECT * FROM clicks WHERE action = 'view')" if views_only else "clicks"
        return named_bands(
            self.query(f"""
            WITH banded AS ({self.banded(clicks)}),
            counted AS (
                SELECT date, band, performance_id, count(DISTINCT user_id) AS visitors,
                    count(*) AS clicks
                FROM banded GROUP BY date, band, performance_id)
            {ranked("date, band", "performance_id", ["visitors", "clicks"], top)}""")
        )

    def web_pages(self) -> Iterable[Row]:
        # A sketch for each of 35,000 pages a day costs more than a second look at the 100.
        ranks = ranked("date", "path", ["hits", "visitors", "failed_share"], 100, order=2)
        return self.query(f"""
            WITH counted AS ({self.pages}),
            ranked AS ({ranks}),
            latencies AS (
                SELECT date, path, {self.p95} AS p95
                FROM logs JOIN (SELECT date, path FROM ranked) pages USING (date, path)
                GROUP BY date, path)
            SELECT ranked.date, place, ranked.path, hits, visitors, failed_share, p95
            FROM ranked JOIN latencies
                ON ranked.date = latencies.date AND ranked.path = latencies.path""")

    def regions(self) -> Iterable[Row]:
        return self.query(f"""
            WITH counted AS (
                SELECT c.date, coalesce(u.region, 'unknown') AS region, c.performance_id,
                    count(*) AS clicks
                FROM clicks c LEFT JOIN users u ON c.user_id = u.user_id
                GROUP BY c.date, coalesce(u.region, 'unknown'), c.performance_id)
            {ranked("date, region", "performance_id", ["clicks"], 10)}""")

    def frequent_visitors(self, day: date) -> Iterable[Row]:
        return self.query(f"""
            SELECT user_id, count(DISTINCT date) AS days_seen, count(*) AS clicks,
                count(DISTINCT performance_id) AS performances,
                count(*) FILTER (WHERE action = 'view') AS views,
                count(*) FILTER (WHERE action = 'like') AS likes,
                count(*) FILTER (WHERE action = 'buy_link') AS buy_links,
                max(date) AS last_seen
            FROM clicks
            WHERE user_id IS NOT NULL
                AND date BETWEEN date '{day - timedelta(days=29)}' AND date '{day}'
            GROUP BY user_id HAVING count(DISTINCT date) >= 3
            ORDER BY days_seen DESC, clicks DESC, user_id LIMIT 1000""")

    def floor(self) -> Iterable[Row]:
        # Sums, since a maximum can be had from the files' statistics.
        return self.query("SELECT sum(user_id), sum(performance_id) FROM clicks")

    def banded(self, clicks: str, columns: str = "") -> str:
        """Each row of `clicks` with its age band; further `columns` begin with a comma."""
        return f"""
            SELECT date, performance_id, user_id {columns}, {_BAND} AS band FROM (
                SELECT {self.join_hint} c.date, c.performance_id, c.user_id {columns},
                    cast({_DAY.format("c.date")} AS int) - u.birth AS age
                FROM {clicks} c LEFT JOIN {_BIRTHS} u ON c.user_id = u.user_id)"""


def ranked(per: str, item: str, measures: list[str], top: int, order: int | None = None) -> str:
    """Ranks `counted` by its first `order` measures (or all), descending, ties by the item."""
    by = ", ".join(f"{measure} DESC" for measure in measures[:order])
    return f"""
        SELECT {per}, place, {item}, {", ".join(measures)} FROM (
            SELECT *, row_number() OVER (PARTITION BY {per} ORDER BY {by}, {item}) AS place
            FROM counted) ranks
        WHERE place <= {top}"""


def named_bands(rows: Iterable[Any]) -> Iterable[Row]:
    return ((day, band_name(band), *rest) for day, band, *rest in rows)
