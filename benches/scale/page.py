"""What was predicted, as a page for people and as JSON with all figures that went into it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from predict import NO_KEY, Assumptions, Prediction, candidates, tasks, work_seconds
from recorded import Run, Stage

# Where records of measurements lie, and what they say of the machine.
sys.path.append(str(Path(__file__).parent.parent / "peers"))
import report  # noqa: E402

_HEAD = [
    "executors",
    "seconds, on",
    "seconds, off",
    "off ÷ on",
    "efficiency, on",
    "efficiency, off",
    "longest ÷ median task, on",
    "longest ÷ median task, off",
]


def section(run: Run, assumed: Assumptions, predictions: Sequence[Prediction]) -> str:
    """The table of one job, and what it rests on."""
    one_task = sum(sum(tasks(stage, assumed)) for stage in run.stages if stage.one_task)
    stages = (f"{_counted(stage)} of {stage.name}, {stage.work_seconds:,.2f} s" for stage in run.stages)
    lines = [
        f"## {run.job}",
        "",
        f"Recorded: {run.work_seconds:,.2f} s of work: {'; '.join(stages)}.",
        "",
        f"Scheduled: {assumed.scale:,} × that log, {_seconds(work_seconds(run, assumed))} s of work,"
        f" {_seconds(one_task)} s of it in stages of one task.",
        "",
        _table(predictions),
        "",
        *(f"- {note}" for note in _notes(run, assumed, predictions)),
    ]
    return "\n".join(lines)


def model(assumed: Assumptions) -> str:
    """What was assumed, in full."""
    grows = "takes K times as long" if assumed.one_task_grows else "takes as long as it did"
    if assumed.group_key == "whole":
        group_key = "all group columns of the log together, as if these were independent"
    else:
        group_key = (
            "the group column with the hottest key (a date only if there is no other). A query that groups"
            " by several columns hashes all of them, which divides hot keys: over several dates this"
            " overstates the times of off; `--group-key whole` doesn't"
        )
    points = [
        "Executors have one slot. A stage begins when the one before has ended. Its tasks are scheduled"
        " longest first (Graham 1969). Efficiency: the work of all tasks by executors × seconds.",
        "Left out, on and off: planning, starting tasks, moving rows between executors, publishing.",
        "The log is K times as large as the recorded one. Stages of several tasks have each of them K times,"
        " with the measured times, the exchange's too: groups and distinct values grow with the log. The"
        f" only task of a stage stays one and {grows}. Tasks without rows are left out.",
        "On: tasks as measured.",
        "Off: the stage that takes in the log's rows is split. Reading is even: where the stage reads files"
        f" itself, {assumed.scan_share:.0%} of its work, an assumption. The rest goes to"
        f" {assumed.partitions_per_executor} partitions for each executor, in proportion to their rows: all"
        " rows of a hot key to one (CRC-32 of the key mod partitions), those of other keys evenly to all.",
        f"Off sends rows by {group_key}.",
        "For a lookup, off sends them by the join key, those without one all to the same partition. How the"
        " work divides into lookup and aggregation isn't known: the slower of the two shuffles counts, with"
        " all of it, which is the most that off may take.",
        "In favour of off: the rows that it moves cost nothing; all other stages stay as measured.",
        "Off aggregates only behind its shuffle. An engine that does so before as well isn't slowed by hot"
        " keys in plain counts, but it is in exact distinct counts.",
    ]
    return "\n".join(["## The model", "", *(f"- {point}" for point in points)])


def write(
    day: date, command: str, text: str, cases: Sequence[dict[str, Any]], *, recorded_here: bool
) -> None:
    """`results.md` and `.json` in `benches/runs/<date>-<host>/scale`, or with a number.

    The JSON has the runs as the binary printed them, so that `--recorded` can take it.
    """
    into = report.folder(day).parent / "scale"
    machine = report.machine() if recorded_here else "that of the recorded runs"
    facts = {"date": str(day), "machine": machine, "command": command}
    raw = {**facts, **{kind: [each[kind] for each in cases] for kind in ("predictions", "runs")}}
    head = [f"# Scale on paper, {day}", "", f"Host: {machine}. Command: `{command}`."]
    report.write_pair(into, raw, "\n".join([*head, "", text]) + "\n")


def case(run: Run, assumed: Assumptions, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The figures of one job; of what the binary printed, those that say nothing of folders."""
    kept = ("job", "rows_read", "bytes_read", "elapsed_seconds", "cpu_seconds", "skew")
    recorded = {key: run.raw[key] for key in kept if key in run.raw}
    rows = [
        {key: None if value == math.inf else value for key, value in asdict(each).items()}
        for each in predictions
    ]
    return {"runs": recorded, "predictions": {"job": run.job, **asdict(assumed), "executors": rows}}


def _notes(run: Run, assumed: Assumptions, predictions: Sequence[Prediction]) -> list[str]:
    notes = []
    if run.correction < 1:
        notes.append(
            "Tasks waited for a core in the midst of their work, as they do with more threads than cores:"
            f" where a stage had several, their times are multiplied by {run.correction:.2f}, so that all"
            " tasks together took no more than the processor time of the process."
        )
    elif "cpu_seconds" not in run.raw:
        notes.append(
            "Processor time isn't recorded: were there more threads than cores, the times of tasks hold"
            " waiting for a core."
        )
    for keys in candidates(run, assumed):
        key, share = keys.hottest
        times = " / ".join(_seconds(each.off_by_keys[keys.name]) for each in predictions)
        key = "without a key:" if key == NO_KEY else f"hottest key {key}:"
        hottest = f"{key} {share:.1%} of all rows" if keys.shares else "all keys alike"
        unused = "" if keys.counts else "; not in the table"
        notes.append(f"Off by {keys.name}: {times} s ({hottest}{unused}).")
    aggregation = run.aggregation
    notes.append(f"Longest ÷ median task: of {aggregation.name}; off, of its partitions, by rows.")
    if aggregation.one_task:
        notes.append(
            f"**{aggregation.name} had one task**, which executors can't share: the recorded log was too"
            " small to be cut, or memory too short. Record a run over more dates or rows."
        )
    return notes


def _counted(stage: Stage) -> str:
    return "1 task" if len(stage.seconds) == 1 else f"{len(stage.seconds)} tasks"


def _table(predictions: Sequence[Prediction]) -> str:
    rows = [_HEAD, ["--:"] * len(_HEAD), *(_cells(each) for each in predictions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "| " + " | ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _padded(cell: str, width: int) -> str:
    return ":".rjust(width, "-") if cell == "--:" else cell.rjust(width)


def _cells(each: Prediction) -> list[str]:
    return [
        str(each.executors),
        _seconds(each.on_seconds),
        _seconds(each.off_seconds),
        f"{each.off_seconds / each.on_seconds:.2f}",
        f"{each.on_efficiency:.0%}",
        f"{each.off_efficiency:.0%}",
        _ratio(each.on_straggling),
        _ratio(each.off_straggling),
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f}" if seconds < 100 else f"{seconds:,.0f}"


def _ratio(ratio: float) -> str:
    return "∞" if ratio == math.inf else f"{ratio:,.1f}"
