"""What was predicted, as a page for people and as JSON with all figures that went into it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from predict import Assumptions, Prediction, candidates, tasks, work_seconds
from recorded import Run

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
    work, stage = work_seconds(run, assumed), run.aggregation
    one_task = sum(sum(tasks(each, assumed)) for each in run.stages if each.one_task)
    lines = [
        f"## {run.job}",
        "",
        f"Recorded: {run.work_seconds:,.2f} s of work, in stages of tasks with rows:",
        "; ".join(f"{s.name}: {len(s.seconds)} tasks, {s.work_seconds:,.2f} s" for s in run.stages) + ".",
        f"Scheduled: {assumed.scale:,} × that log, {work:,.1f} s of work, {one_task:,.1f} s of it in stages of one task.",
        "",
        _table(predictions),
        "",
    ]
    lines += [f"- {note}" for note in _notes(run, assumed, predictions)]
    if stage.one_task:
        lines.append(
            f"- **{stage.name} had one task**, which no executor can share: the recorded log was too small"
            " or memory too short to cut it. Record a run over more dates or more rows."
        )
    return "\n".join(lines)


def model(assumed: Assumptions) -> str:
    """What was assumed, in full."""
    grows = "takes as many times as long as the log is larger" if assumed.one_task_grows else "takes as long as it did"
    sent = {
        "hottest": "by the hash of the group column with the hottest key (the date only if there is no other)."
        " A query that groups by several columns hashes all of them, which divides hot keys: over several"
        " dates this overstates the times of off (`--group-key whole` does not)",
        "whole": "by the hash of all group columns of the log together, as if these were independent",
    }[assumed.group_key]
    points = [
        "A stage begins when the one before has ended. Its tasks are scheduled longest first (Graham 1969) on"
        " executors of one slot. Efficiency is the work of all tasks by executors × time.",
        "Times leave out planning, starting tasks, moving rows between executors and publishing, on and off.",
        f"**The larger log**: stages of several tasks have them {assumed.scale:,} times, with the measured times:"
        f" groups and distinct values grow with the log. The only task of a stage stays one and {grows}."
        " Tasks without rows are left out.",
        "**On**: tasks as measured.",
        f"**Off**: the stage that takes in the log's rows is split. Reading is even ({assumed.scan_share:.0%} of its"
        " work, an assumption, if it reads files itself; a stage that only reads stays as measured). The rest goes"
        f" to {assumed.partitions_per_executor} partitions for each executor, its work in proportion to their rows,"
        f" {sent}; for a lookup by the join key, rows without one all to the same partition. A hot key goes to"
        " partition CRC-32 mod partitions, rows of other keys are spread evenly.",
        "Any part of that work might be the lookup's or the aggregation's: the slower of the two shuffles counts, with"
        " all of it. This is an upper bound for off.",
        "In favour of off: the rows that it would move cost nothing, and all other stages stay as measured.",
        "Off has no aggregation before its shuffle. Engines that have one are not slowed by hot keys in plain counts;"
        " they are in exact distinct counts.",
    ]
    return "\n".join(["## The model", "", *(f"- {point}" for point in points)])


def write(day: date, command: str, text: str, cases: Sequence[dict[str, Any]]) -> None:
    """`results.md` and `.json` in `benches/runs/<date>-<host>/scale`, or with a number."""
    into = report.folder(day).parent / "scale"
    into.mkdir(parents=True, exist_ok=True)
    count = 1
    while (name := "results" if count == 1 else f"results-{count}") and (into / f"{name}.md").exists():
        count += 1
    head = [f"# Scale on paper, {day}", "", f"Host of the recorded runs: {report.machine()}.", f"Command: `{command}`."]
    raw = {"date": str(day), "machine": report.machine(), "command": command, **_columns(cases)}
    (into / f"{name}.json").write_text(json.dumps(raw, indent=1, allow_nan=False) + "\n")
    (into / f"{name}.md").write_text("\n".join([*head, "", text]) + "\n")
    print(f"written to {into / name}.md and .json", file=sys.stderr)


def case(run: Run, assumed: Assumptions, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The figures of one job; `run` is as the binary printed it, without this machine's folders."""
    recorded = {key: run.raw[key] for key in ("job", "elapsed_seconds", "cpu_seconds", "skew") if key in run.raw}
    rows = [
        {key: None if value == math.inf else value for key, value in asdict(each).items()}
        for each in predictions
    ]
    return {"run": recorded, "prediction": {"job": run.job, **asdict(assumed), "executors": rows}}


def _columns(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "predictions": [each["prediction"] for each in cases],
        # What `--recorded` takes.
        "runs": [each["run"] for each in cases],
    }


def _notes(run: Run, assumed: Assumptions, predictions: Sequence[Prediction]) -> list[str]:
    notes = []
    if run.correction < 1:
        notes.append(
            "Tasks of stages with several took more time by the clock than the process used processors, having"
            f" waited for a core in the midst of their work: their times are multiplied by {run.correction:.2f}."
        )
    elif "cpu_seconds" not in run.raw:
        notes.append("Processor time is not recorded: with more threads than cores, tasks' times hold waiting for a core.")
    for keys in candidates(run, assumed):
        key, share = keys.hottest
        times = " / ".join(_seconds(each.off_by_keys[keys.name]) for each in predictions)
        hottest = f"hottest {key}, {share:.1%} of the rows" if keys.shares else "all even"
        unused = "" if keys.counts else "; not in the table"
        notes.append(f"Off, rows sent by {keys.name}: {times} s ({hottest}{unused}).")
    return [*notes, f"Longest ÷ median task: of {run.aggregation.name}; off, of the partitions by rows."]


def _table(predictions: Sequence[Prediction]) -> str:
    rows = [_HEAD, ["--:"] * len(_HEAD), *(_cells(each) for each in predictions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "| " + " | ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
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
