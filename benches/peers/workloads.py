"""What is asked: each workload as rankmill's specs and as questions to a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from answers import Row
from engines import Engine

Ask = Callable[[Engine, Sequence[date]], Iterable[Row]]


@dataclass(frozen=True)
class Question:
    """One ranking. `ask` gives rows of `columns` and, behind them, those in `not_compared`."""

    spec: str
    columns: tuple[str, ...]
    ask: Ask
    not_compared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """Questions answered one after the other in one process."""

    name: str
    title: str
    questions: tuple[Question, ...]
    first_day_only: bool = False
    # Its own lake: one whose users are too many to broadcast.
    many_users: bool = False
    # The decode floor is no job: only engines whose scan is of interest answer it.
    only: tuple[str, ...] = ()
    # The shipped specs are jobs' names, others lie in `specs/`.
    shipped: bool = False

    def days(self, days: Sequence[date]) -> Sequence[date]:
        return days[:1] if self.first_day_only else days


def _frequent_visitors(engine: Engine, days: Sequence[date]) -> Iterable[Row]:
    for day in days:
        yield from ((day, *row) for row in engine.frequent_visitors(day))


_POPULARITY = ("date", "rank", "performance_id", "visitors", "clicks")
_AGES = ("date", "age_band", "rank", "performance_id", "visitors", "clicks")
_PAGES = ("date", "rank", "path", "hits", "visitors", "failed_share")
# A percentile is approximate, and each engine has its own way.
_P95 = ("p95_latency_ms",)
_VISITORS = (
    "date", "user_id", "days_seen", "clicks", "performances",
    "views", "likes", "buy_links", "last_seen",
)  # fmt: skip

FLOOR = Workload(
    "floor",
    "reading W2's two columns and no more",
    (Question("", ("users", "performances"), lambda engine, days: engine.floor()),),
    only=("duckdb", "datafusion", "polars", "chdb"),
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "W1",
            "daily popularity, one day, exact visitors",
            (
                Question(
                    "popularity-day",
                    _POPULARITY,
                    lambda engine, days: engine.popularity_of(days[0]),
                ),
            ),
            first_day_only=True,
        ),
        Workload(
            "W2",
            "top 10 per date and age band, clicks",
            (
                Question(
                    "age-clicks",
                    ("date", "age_band", "rank", "performance_id", "clicks"),
                    lambda engine, days: engine.age_clicks(),
                ),
            ),
        ),
        Workload(
            "W3",
            "top 10 per date and age band, exact visitors",
            (
                Question(
                    "age-visitors",
                    _AGES,
                    lambda engine, days: engine.age_visitors(top=10, views_only=False),
                ),
            ),
        ),
        Workload(
            "W4",
            "top 100 web pages per date, exact addresses, p95",
            (Question("web-pages", _PAGES, lambda engine, days: engine.web_pages(), _P95),),
        ),
        Workload(
            "W5",
            "top 10 per date and region of 40 M users, clicks",
            (
                Question(
                    "regions",
                    ("date", "region", "rank", "performance_id", "clicks"),
                    lambda engine, days: engine.regions(),
                ),
            ),
            many_users=True,
        ),
        Workload(
            "W6",
            "the four shipped jobs",
            (
                Question("daily-popularity", _POPULARITY, lambda engine, days: engine.popularity()),
                Question(
                    "age-date-ranking",
                    _AGES,
                    lambda engine, days: engine.age_visitors(top=100, views_only=True),
                ),
                Question("daily-web-pages", _PAGES, lambda engine, days: engine.web_pages(), _P95),
                Question("frequent-visitors", _VISITORS, _frequent_visitors),
            ),
            shipped=True,
        ),
        FLOOR,
    )
}
