"""`python3 -m unittest` in this folder."""

from __future__ import annotations

import itertools
import random
import unittest
from typing import Any

import recorded
from predict import Assumptions, candidates, default_scale, partitions, predict, work_seconds
from recorded import BadReport, Run
from schedule import makespan


def _assumed(**changes: Any) -> Assumptions:
    usual = {"partitions_per_executor": 2, "scan_share": 0.5, "group_key": "hottest"}
    return Assumptions(**{"scale": 1, "one_task_grows": True, **usual, **changes})


def _stage(name: str, *seconds: float, bytes_read: int = 0, count: int | None = None) -> dict[str, Any]:
    """Tasks of 0 s have no rows."""
    tasks = [
        {"rows": 1 if each else 0, "bytes": bytes_read if each else 0, "us": round(each * 1e6)}
        for each in seconds
    ]
    return {"name": name, "count": count or len(tasks), "tasks": tasks}


def _key(column: str, role: str, rows: int, keys: dict[str, int], nulls: int = 0) -> dict[str, Any]:
    listed = [{"key": key, "rows": count} for key, count in keys.items()]
    return {"column": column, "role": role, "rows": rows, "nulls": nulls, "keys": listed}


def _run(stages: list[dict[str, Any]], *columns: dict[str, Any], **more: Any) -> Run:
    return recorded.from_json({"job": "j", "skew": {"stages": stages, "columns": list(columns)}, **more})


def _shortest(tasks: tuple[int, ...], executors: int) -> int:
    """By trying all ways."""
    ways = itertools.product(range(executors), repeat=len(tasks))
    return min(
        max(sum(t for t, at in zip(tasks, way, strict=True) if at == executor) for executor in range(executors))
        for way in ways
    )


class Scheduling(unittest.TestCase):
    def test_simple_cases_are_exact(self) -> None:
        for tasks, executors, expected in [
            ([], 3, 0),
            ([5], 3, 5),
            ([1] * 12, 4, 3),
            ([9, 1, 1, 1], 2, 9),
            ([7, 6, 5, 4], 2, 11),
            ([4, 3, 2, 1], 1, 10),
        ]:
            self.assertEqual(makespan(tasks, executors), expected, (tasks, executors))

    def test_it_keeps_grahams_bound(self) -> None:
        # The classic case that reaches the bound: 11 where 9 is possible.
        self.assertEqual(makespan([5, 5, 4, 4, 3, 3, 3], 3), 11)
        self.assertEqual(_shortest((5, 5, 4, 4, 3, 3, 3), 3), 9)
        source = random.Random(7)
        for _ in range(300):
            executors = source.randint(2, 3)
            tasks = tuple(source.randint(1, 20) for _ in range(source.randint(1, 7)))
            shortest, ours = _shortest(tasks, executors), makespan(tasks, executors)
            self.assertGreaterEqual(ours, shortest, tasks)
            self.assertLessEqual(ours, shortest * (4 / 3 - 1 / (3 * executors)) + 1e-9, tasks)


class WithoutSkewHandling(unittest.TestCase):
    def test_one_key_with_all_rows_is_one_partition(self) -> None:
        self.assertEqual(sorted(partitions({"a": 1.0}, 8)), [0.0] * 7 + [1.0])
        # 4 s of reading by 4 executors, 4 s of aggregation in one task.
        run = _run(
            [_stage("aggregate: partial", *[1] * 8, bytes_read=9)],
            _key("item", "group_key", 100, {"a": 100}),
        )
        found = predict(run, 4, _assumed())
        self.assertAlmostEqual(found.off_seconds, 1 + 4)
        self.assertAlmostEqual(found.on_seconds, 2)
        self.assertAlmostEqual(found.on_efficiency, 1)
        self.assertAlmostEqual(found.off_efficiency, 8 / 20)
        self.assertEqual(found.off_straggling, float("inf"))

    def test_without_hot_keys_partitions_are_even(self) -> None:
        self.assertEqual(partitions({}, 4), [0.25] * 4)
        stage = _stage("aggregate: single by date", 2, 2, bytes_read=9)
        run = _run([stage], _key("item", "group_key", 100, {}))
        found = predict(run, 2, _assumed())
        self.assertAlmostEqual(found.off_seconds, found.on_seconds)

    def test_rows_without_a_join_key_go_to_one_partition(self) -> None:
        users = _key("user", "join_key", 100, {"u": 1}, nulls=60)
        items = _key("item", "group_key", 100, {"a": 10}, nulls=90)
        run = _run([_stage("read", 1, 1, bytes_read=9), _stage("aggregate: single", 10)], users, items)
        self.assertEqual([keys.hottest[1] for keys in candidates(run, _assumed())], [0.1, 0.6])
        found = predict(run, 100, _assumed())
        # Reading as measured, then the slower of both shuffles.
        self.assertAlmostEqual(found.off_seconds, 1 + 10 * (0.6 + 0.39 / 200), places=2)
        self.assertAlmostEqual(found.on_seconds, 1 + 10)

    def test_the_date_counts_only_if_there_is_nothing_else(self) -> None:
        dates = _key("date", "group_key", 100, {"2026-06-01": 50, "2026-06-02": 50})
        items = _key("item", "group_key", 100, {"a": 20})
        stages = [_stage("aggregate: partial", 1, 1, bytes_read=9)]
        self.assertEqual(candidates(_run(stages, dates), _assumed())[0].name, "date")
        both = _run(stages, dates, items)
        self.assertEqual([k.name for k in candidates(both, _assumed()) if k.counts], ["item"])
        (whole,) = [k for k in candidates(both, _assumed(group_key="whole")) if k.counts]
        self.assertEqual(whole.shares, {"2026-06-01, a": 0.1, "2026-06-02, a": 0.1})


class Recorded(unittest.TestCase):
    def test_a_larger_log_has_more_tasks_and_longer_lone_ones(self) -> None:
        run = _run([_stage("aggregate: partial", 1, 2, 0, bytes_read=9), _stage("rank", 3)])
        self.assertEqual(default_scale(run, [16, 256]), 512)
        self.assertEqual(work_seconds(run, _assumed(scale=10)), 30 + 30)
        self.assertEqual(work_seconds(run, _assumed(scale=10, one_task_grows=False)), 30 + 3)
        self.assertEqual(predict(run, 10, _assumed(scale=10)).on_seconds, 3 + 30)

    def test_a_sample_of_tasks_stands_for_all(self) -> None:
        run = _run([_stage("aggregate: partial", 4, 2, bytes_read=9, count=5)])
        self.assertEqual(sorted(run.stages[0].seconds), [2, 2, 4, 4, 4])

    def test_tasks_take_no_longer_than_the_processors(self) -> None:
        stages = [_stage("aggregate: partial", 10, 10, bytes_read=9), _stage("rank", 1)]
        run = _run(stages, cpu_seconds=6)
        self.assertEqual([stage.work_seconds for stage in run.stages], [5, 1])
        self.assertEqual(_run(stages, cpu_seconds=60).work_seconds, 21)

    def test_what_cannot_be_scheduled_is_refused(self) -> None:
        with self.assertRaisesRegex(BadReport, "no skew report"):
            recorded.from_json({"job": "j"})
        with self.assertRaisesRegex(BadReport, "no stage aggregates"):
            _run([_stage("read", 1, bytes_read=9)])
        with self.assertRaisesRegex(BadReport, "one process"):
            _run([_stage("aggregate: gathered", 1, 1, bytes_read=9)])


if __name__ == "__main__":
    unittest.main()
