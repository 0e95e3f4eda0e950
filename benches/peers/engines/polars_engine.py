"""Polars: lazy frames on its streaming engine. It has no memory limit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from polars import col

from answers import UNKNOWN, Row, band_name
from engines import Limits


class Polars:
    version = pl.__version__

    def __init__(self, limits: Limits) -> None:
        # It reads its number of threads once, when it is imported.
        assert pl.thread_pool_size() == limits.threads == int(os.environ["POLARS_MAX_THREADS"])

    def attach(self, lake: Path) -> None:
        self._clicks = _dated(f"{lake}/stage/ticket_clicks/date=*/*.parquet")
        self._logs = _dated(f"{lake}/stage/web_logs/date=*/*.parquet")
        self._users = pl.scan_parquet(f"{lake}/dim/users/*.parquet")

    def popularity_of(self, day: date) -> Iterable[Row]:
        ranks = (
            self._clicks.filter(col("date") == day)
            .group_by("performance_id")
            .agg(_VISITORS, _CLICKS)
            .sort("visitors", "clicks", "performance_id", descending=[True, True, False])
            .head(100)
        )
        return ((day, rank, *row) for rank, row in enumerate(_collect(ranks), 1))

    def popularity(self) -> Iterable[Row]:
        counted = self._clicks.group_by("date", "performance_id").agg(_VISITORS, _CLICKS)
        return _collect(_top(counted, 100, ["date"], "performance_id", ["visitors", "clicks"]))

    def age_clicks(self) -> Iterable[Row]:
        counted = self._banded(self._clicks).group_by("date", "band", "performance_id")
        ranks = _top(counted.agg(_CLICKS), 10, ["date", "band"], "performance_id", ["clicks"])
        return _named_bands(_collect(ranks))

    def age_visitors(self, top: int, views_only: bool) -> Iterable[Row]:
        clicks = self._clicks.filter(col("action") == "view") if views_only else self._clicks
        counted = self._banded(clicks).group_by("date", "band", "performance_id")
        by = ["visitors", "clicks"]
        ranks = _top(counted.agg(_VISITORS, _CLICKS), top, ["date", "band"], "performance_id", by)
        return _named_bands(_collect(ranks))

    def web_pages(self) -> Iterable[Row]:
        counted = self._logs.group_by("date", "path").agg(
            hits=pl.len(),
            visitors=col("client_ip").n_unique(),
            failed_share=(col("status") >= 500).mean(),
            p95=col("latency_ms").quantile(0.95),
        )
        more = ["failed_share", "p95"]
        return _collect(_top(counted, 100, ["date"], "path", ["hits", "visitors"], more))

    def regions(self) -> Iterable[Row]:
        counted = (
            self._clicks.join(self._users.select("user_id", "region"), on="user_id", how="left")
            .group_by("date", "region", "performance_id")
            .agg(_CLICKS)
            .with_columns(col("region").fill_null(UNKNOWN))
        )
        return _collect(_top(counted, 10, ["date", "region"], "performance_id", ["clicks"]))

    def frequent_visitors(self, day: date) -> Iterable[Row]:
        return _collect(
            self._clicks.filter(
                col("date").is_between(day - timedelta(days=29), day),
                col("user_id").is_not_null(),
            )
            .group_by("user_id")
            .agg(
                days_seen=col("date").n_unique(),
                clicks=pl.len(),
                performances=col("performance_id").n_unique(),
                views=(col("action") == "view").sum(),
                likes=(col("action") == "like").sum(),
                buy_links=(col("action") == "buy_link").sum(),
                last_seen=col("date").max(),
            )
            .filter(col("days_seen") >= 3)
            .sort("days_seen", "clicks", "user_id", descending=[True, True, False])
            .head(1000)
        )

    def floor(self) -> Iterable[Row]:
        return _collect(self._clicks.select(col("user_id").sum(), _long("performance_id").sum()))

    def _banded(self, clicks: pl.LazyFrame) -> pl.LazyFrame:
        """Each click with its age band, -1 where the age is not known."""
        births = self._users.select("user_id", birth=_day_number(col("birth_date")))
        age = _day_number(col("date")) - col("birth")
        decade = pl.min_horizontal(age // 100_000, pl.lit(7, pl.Int32))
        band = pl.when(age.is_between(0, 1_209_999)).then(decade).otherwise(-1).cast(pl.Int8)
        return clicks.join(births, on="user_id", how="left").with_columns(band=band)


_VISITORS = col("user_id").drop_nulls().n_unique().alias("visitors")
_CLICKS = pl.len().alias("clicks")


def _dated(files: str) -> pl.LazyFrame:
    return pl.scan_parquet(files, hive_partitioning=True, hive_schema={"date": pl.Date})


def _long(column: str) -> pl.Expr:
    return col(column).cast(pl.Int64)


def _day_number(day: pl.Expr) -> pl.Expr:
    """YYYYMMDD: the difference of two holds the age in full years."""
    year, month = day.dt.year().cast(pl.Int32), day.dt.month().cast(pl.Int32)
    return year * 10_000 + month * 100 + day.dt.day().cast(pl.Int32)


def _top(
    counted: pl.LazyFrame, top: int, per: list[str], item: str, by: list[str], more: Sequence[str] = ()
) -> pl.LazyFrame:
    """Ranks by `by` descending, ties by the item."""
    ordered = counted.sort(*by, item, descending=[True] * len(by) + [False])
    places = ordered.with_columns(place=pl.int_range(1, pl.len() + 1).over(per))
    return places.filter(col("place") <= top).select(*per, "place", item, *by, *more)


def _collect(frame: pl.LazyFrame) -> Sequence[Row]:
    return frame.collect(engine="streaming").rows()


def _named_bands(rows: Iterable[Any]) -> Iterable[Row]:
    return ((day, band_name(band), *rest) for day, band, *rest in rows)
