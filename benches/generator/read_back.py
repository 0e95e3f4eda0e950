"""Reads a generated lake with another engine and compares with its truth.json: prints {"faults": [what differs],
"sums": what it reads that the truth doesn't say, to be compared between engines}.

Each engine answers the same few questions in its own way; what the truth says is in one place.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))

# Questions in SQL that all of them speak; `{day}` turns a timestamp into the date in Asia/Seoul.
_QUESTIONS = {
    "clicks": "SELECT count(*), count(user_id), count(performance_id), count(action), count(DISTINCT click_id) FROM clicks",
    "rows by date": "SELECT CAST(date AS VARCHAR(10)) AS d, count(*) FROM clicks GROUP BY 1 ORDER BY 1",
    "late clicks": "SELECT count(*) FROM clicks WHERE {day} <> CAST(date AS DATE)",
    "requests": "SELECT count(*), count(referrer), count(DISTINCT request_id) FROM logs",
    "users": "SELECT count(*), count(birth_date), min(user_id), max(user_id) FROM users",
    "performances": "SELECT count(*), count(title), count(DISTINCT genre), min(price_krw) > 0 FROM performances",
    "unknown items": (
        "SELECT count(*) FROM clicks WHERE performance_id IS NOT NULL"
        " AND performance_id NOT IN (SELECT performance_id FROM performances)"
    ),
    "first day's top": (
        "SELECT performance_id, count(*) AS n, count(DISTINCT user_id) AS v FROM clicks"
        " WHERE performance_id IS NOT NULL AND CAST(date AS VARCHAR(10)) = '2026-06-01'"
        " GROUP BY performance_id ORDER BY v DESC, n DESC, performance_id LIMIT 10"
    ),
    "first day's pages": (
        "SELECT path, count(*) AS n, count(DISTINCT client_ip) AS v, sum(CASE WHEN status >= 500 THEN 1 ELSE 0 END)"
        " FROM logs WHERE CAST(date AS VARCHAR(10)) = '2026-06-01' GROUP BY path ORDER BY n DESC, v DESC, path LIMIT 10"
    ),
}

# Of these only the engines' agreement is known: each column's values, times and dates by their parts.
_SUMS = {
    "clicks": (
        "SELECT sum(click_id), sum(user_id), sum(session_id), sum(CAST(performance_id AS BIGINT)), sum(length(action)),"
        " sum(length(platform)), sum(length(device)) FROM clicks"
    ),
    "hours": "SELECT {hour} AS h, count(*) FROM clicks GROUP BY 1 ORDER BY 1",
    "requests": (
        "SELECT sum(request_id), sum(length(client_ip)), sum(user_id), sum(session_id), sum(length(method)),"
        " sum(length(path)), sum(CAST(status AS BIGINT)), sum(bytes), sum(CAST(latency_ms AS BIGINT)), sum(length(referrer)), count(referrer),"
        " sum(length(user_agent)) FROM logs"
    ),
    "births": (
        "SELECT extract(year FROM birth_date) AS y, count(*), sum(extract(month FROM birth_date)),"
        " sum(extract(day FROM birth_date)) FROM users WHERE birth_date IS NOT NULL GROUP BY 1 ORDER BY 1"
    ),
    "users": (
        "SELECT gender, region, count(*), sum(user_id), sum(extract(day FROM signed_up_on)) FROM users"
        " WHERE gender IS NOT NULL GROUP BY gender, region ORDER BY gender, region"
    ),
    "performances": (
        "SELECT genre, venue, region, count(*), sum(length(title)), sum(extract(day FROM opens_on)),"
        " sum(extract(year FROM closes_on)), sum(CAST(price_krw AS BIGINT)) FROM performances"
        " GROUP BY genre, venue, region ORDER BY genre, venue, region"
    ),
}

_TYPES = {
    "clicks": {
        "click_id": "int64", "clicked_at": "timestamp", "user_id": "int64", "session_id": "int64",
        "performance_id": "int32", "action": "text", "platform": "text", "device": "text",
    },
    "logs": {
        "request_id": "int64", "requested_at": "timestamp", "client_ip": "text", "user_id": "int64",
        "session_id": "int64", "method": "text", "path": "text", "status": "int16", "bytes": "int64",
        "latency_ms": "int32", "referrer": "text", "user_agent": "text",
    },
    "users": {
        "user_id": "int64", "birth_date": "date", "gender": "text", "region": "text", "signed_up_on": "date",
    },
    "performances": {
        "performance_id": "int32", "title": "text", "genre": "text", "venue": "text", "region": "text",
        "opens_on": "date", "closes_on": "date", "price_krw": "int32",
    },
}  # fmt: skip
_TABLES = {
    "clicks": "stage/ticket_clicks",
    "logs": "stage/web_logs",
    "users": "dim/users",
    "performances": "dim/performances",
}

Ask = Callable[[str], list[list[Any]]]
# A table's columns and their types.
Kinds = Callable[[str], dict[str, str]]
# How an engine says the day and the hour in Asia/Seoul of `clicked_at`; how it is asked; what types it sees.
Reader = tuple[dict[str, str], Ask, Kinds]


def expected(truth: dict[str, Any]) -> dict[str, list[list[Any]]]:
    days, defects, tables = truth["days"], truth["defects"], truth["tables"]
    clicks = tables["ticket_clicks"]["rows"]
    requests = tables["web_logs"]["rows"]
    users = tables["users"]["rows"]
    return {
        "clicks": [[
            clicks, clicks - defects["anonymous_clicks"], clicks - defects["clicks_without_item"], clicks,
            clicks - defects["doubled_clicks"],
        ]],
        "rows by date": [[day["date"], day["click_rows"]] for day in days],
        "late clicks": [[defects["late_clicks"]]],
        "requests": [[requests, None, requests - defects["doubled_requests"]]],
        "users": [[users, users - truth["users_without_birth_date"], 1, users]],
        "performances": [[tables["performances"]["rows"], tables["performances"]["rows"], 8, True]],
        "unknown items": [[defects["clicks_on_unknown_items"]]],
        "first day's top": [
            [row["item"], row["clicks"], row["visitors"]] for row in truth["daily_popularity"][0]["top"][:10]
        ],
        "first day's pages": [
            [row["path"], row["hits"], row["visitors"], row["errors_5xx"]]
            for row in truth["daily_web_pages"][0]["top"][:10]
        ],
    }  # fmt: skip


def duckdb(lake: Path) -> Reader:
    import duckdb

    connection = duckdb.connect()
    connection.sql("SET TimeZone = 'UTC'")
    for name, folder in _TABLES.items():
        connection.sql(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{lake}/{folder}/**/*.parquet', hive_partitioning = true)")
    names = {"BIGINT": "int64", "INTEGER": "int32", "SMALLINT": "int16", "VARCHAR": "text", "DATE": "date",
             "TIMESTAMP WITH TIME ZONE": "timestamp"}  # fmt: skip

    def kinds(table: str) -> dict[str, str]:
        described = connection.sql(f"DESCRIBE {table}").fetchall()
        return {row[0]: names.get(row[1], row[1]) for row in described}

    korean = "(clicked_at AT TIME ZONE 'Asia/Seoul')"
    terms = {"day": f"CAST({korean} AS DATE)", "hour": f"extract(hour FROM {korean})"}
    return terms, lambda sql: [list(row) for row in connection.sql(sql).fetchall()], kinds


def polars(lake: Path) -> Reader:
    import polars

    context = polars.SQLContext()
    frames = {}
    for name, folder in _TABLES.items():
        frame = polars.scan_parquet(f"{lake}/{folder}/**/*.parquet", hive_partitioning=True)
        if name == "clicks":
            # Its SQL has no time zones.
            korean = polars.col("clicked_at").dt.convert_time_zone("Asia/Seoul").dt
            frame = frame.with_columns(korean.date().alias("day"), korean.hour().alias("hour"))
        frames[name] = frame
        context.register(name, frame)
    names = {"Int64": "int64", "Int32": "int32", "Int16": "int16", "String": "text", "Date": "date"}

    def kinds(table: str) -> dict[str, str]:
        schema = {name: str(kind) for name, kind in frames[table].collect_schema().items()}
        return {name: names.get(kind, "timestamp" if kind.startswith("Datetime") else kind) for name, kind in schema.items()}

    terms = {"day": "day", "hour": "hour"}
    return terms, lambda sql: [list(row) for row in context.execute(sql).collect().rows()], kinds


def spark(lake: Path) -> Reader:
    from engines import Limits
    from engines.spark_engine import Spark

    scratch = Path(tempfile.mkdtemp(prefix="rankmill-read-"))
    session = Spark(Limits(threads=2, memory_bytes=None, spill=scratch))._session
    for name, folder in _TABLES.items():
        session.read.parquet(f"{lake}/{folder}/").createOrReplaceTempView(name)
    names = {"bigint": "int64", "int": "int32", "smallint": "int16", "string": "text"}

    def kinds(table: str) -> dict[str, str]:
        return {name: names.get(kind, kind) for name, kind in session.table(table).dtypes}

    korean = "from_utc_timestamp(clicked_at, 'Asia/Seoul')"
    terms = {"day": f"CAST({korean} AS DATE)", "hour": f"extract(HOUR FROM {korean})"}
    return terms, lambda sql: [list(row) for row in session.sql(sql).collect()], kinds


def main() -> None:
    engine, lake = sys.argv[1], Path(sys.argv[2])
    terms, ask, kinds = {"duckdb": duckdb, "polars": polars, "spark": spark}[engine](lake)
    truth = json.loads((lake / "truth.json").read_text())
    faults = []
    for table, columns in _TYPES.items():
        seen = kinds(table)
        for column, kind in columns.items():
            if seen.get(column) != kind:
                faults.append(f"{table}.{column} is {seen.get(column)}, not {kind}")
    for question, answer in expected(truth).items():
        found = ask(_QUESTIONS[question].format(**terms))
        # What the truth doesn't say is asked only to be read.
        pairs = [(a, b) for x, y in zip(found, answer, strict=False) for a, b in zip(x, y, strict=False) if b is not None]
        if len(found) != len(answer) or any(a != b for a, b in pairs):
            faults.append(f"{question}: {found}, not {answer}")
    sums = {name: ask(question.format(**terms)) for name, question in _SUMS.items()}
    # Some say 3.0 of what others say 3 of.
    plain = lambda value: int(value) if not isinstance(value, str) and value is not None else value  # noqa: E731
    sums = {name: [[plain(value) for value in row] for row in rows] for name, rows in sums.items()}
    print(json.dumps({"faults": faults, "sums": sums}, default=str))


if __name__ == "__main__":
    main()
