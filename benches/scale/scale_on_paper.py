"""Schedules the recorded tasks of a run on 16, 64 and 256 executors, with skew handling and without.

No such cluster is measured: what is measured are the tasks of a run on this machine. Of each stage
the skew report of `rankmill run … --format json` tells rows, bytes and microseconds of work of every
task, and of each group and join key the most frequent values. From these are predicted, for each
number of executors, seconds, efficiency, and the longest task by the one in the middle.

The model. Executors have one slot. A stage begins when the one before has ended, as stages of Spark
and Ballista do. Its tasks are scheduled longest processing time first, which takes at most 4/3 of
the shortest time possible (R. L. Graham, Bounds on Multiprocessing Timing Anomalies, SIAM J. Appl.
Math. 17, 1969). The predicted time is the sum over the stages; efficiency is the work of all tasks,
in seconds, by executors × predicted seconds. Planning, starting tasks, moving rows and publishing
are left out.

- With skew handling, tasks are as measured.
- Without, the stage that takes in the log's rows is split: into reading, which is even (`--scan-share`
  of its work where it reads files itself), and into aggregating in `--partitions-per-executor` ×
  executors partitions. Rows go to them by the hash of their group key, and for a lookup by that of the
  join key, those without one all to the same. A partition's work is in proportion to its rows: of each hot
  key all that the report estimates, in the partition CRC-32 of the key's text mod partitions, and an
  even part of the others. Any part of the work might be the lookup's or the aggregation's, so the
  slower of these shuffles counts with all of it. Moving the rows costs nothing, and the other
  stages stay as measured, both in favour of "off".
- A recorded log is small: `--scale K` takes one K times as large. Stages of several tasks have each
  of them K times, the exchange's too: groups and distinct values grow with the log. A stage of one
  task (the last merge of ranks) keeps one, which takes K times as long, for it gets rows from K
  times as many tasks (`--one-task-stages keep`: as long as before). Tasks without rows are left out.
- The job is recorded as a cluster plans it, with exchanges; without a limit of memory one process
  brings together in memory what its tasks found, which can't be scheduled on many.
- Tasks are timed by the clock. With more threads than cores they wait for one in the midst of their
  work; so the times of stages with several tasks are multiplied by what makes all tasks together
  take no longer than the processor time of the process.

Exit codes: 0 done, 1 a run failed or can't be scheduled, 2 usage or environment.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import page
import recorded
from predict import Assumptions, default_scale, predict
from recorded import Run


def main() -> int:
    args = _arguments()
    base = Assumptions(
        scale=1,
        partitions_per_executor=args.partitions_per_executor,
        scan_share=args.scan_share,
        group_key=args.group_key,
        one_task_grows=args.one_task_stages == "grow",
    )
    sections, cases = [], []
    try:
        for run in _runs(args):
            assumed = replace(base, scale=args.scale or default_scale(run, args.executors))
            predictions = [predict(run, executors, assumed) for executors in args.executors]
            cases.append(page.case(run, assumed, predictions))
            sections.append(page.section(run, assumed, predictions))
            print(f"{sections[-1]}\n", flush=True)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (subprocess.CalledProcessError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sections.append(page.model(base))
    print(sections[-1])
    if args.record:
        here = not args.recorded
        page.write(date.today(), _command(), "\n\n".join(sections), cases, recorded_here=here)
    return 0


def _runs(args: argparse.Namespace) -> Iterator[Run]:
    for path in args.recorded:
        yield from recorded.load(path)
    if not args.recorded:
        for spec in args.spec:
            days = args.first_day, args.last_day
            yield recorded.record(args.rankmill, args.lake, spec, days, args.threads, args.rounds)


def _command() -> str:
    """As typed, without this machine's folders."""
    words = [re.sub(r"[^=,]*/", "", word) for word in sys.argv[1:]]
    return shlex.join(["benches/scale/scale_on_paper.py", *words])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rankmill", type=_binary, help="the release binary")
    add("--lake", help="folder or s3://…; the jobs publish their rankings there")
    add("--spec", nargs="+", default=[], help="specs to run: names of shipped ones, or files")
    add("--from", dest="first_day", metavar="DATE", help="first date")
    add("--to", dest="last_day", metavar="DATE", help="last date")
    add("--threads", type=_at_least_one, default=64, help="partitions of the recorded run; default: 64")
    rounds = "runs of each spec, of which the one with the least work counts; default: 3"
    add("--rounds", type=_at_least_one, default=3, help=rounds)
    printed = "in place of runs: what one printed, or a results.json"
    add("--recorded", type=Path, nargs="+", default=[], help=printed)
    add("--executors", type=_executors, default=[16, 64, 256], help="default: 16,64,256")
    scale = "the log is so many times as large; default: four tasks that read for each executor"
    add("--scale", type=_at_least_one, help=scale)
    add("--partitions-per-executor", type=_at_least_one, default=2, help="of off's shuffle; default: 2")
    share = "of the work of a stage that reads and aggregates, what reading takes; default: 0.5"
    add("--scan-share", type=_share, default=0.5, help=share)
    group = "off sends rows by the hottest group column, or by all; default: hottest"
    add("--group-key", choices=["hottest", "whole"], default="hottest", help=group)
    grow = "whether the only task of a stage takes longer with a larger log; default: grow"
    add("--one-task-stages", choices=["grow", "keep"], default="grow", help=grow)
    add("--record", action="store_true", help="write to benches/runs/DATE-HOST/scale")
    args = parser.parse_args()
    needed = {"--rankmill": args.rankmill, "--lake": args.lake, "--spec": args.spec}
    needed |= {"--from": args.first_day, "--to": args.last_day}
    missing = [option for option, value in needed.items() if not value]
    if missing and not args.recorded:
        parser.error(f"{', '.join(missing)} missing; or --recorded FILE")
    return args


def _binary(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text} is no program; cargo build --release makes it")
    return path


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 1 on")
    return int(text)


def _executors(text: str) -> list[int]:
    return [_at_least_one(each) for each in text.split(",")]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a share from 0 to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
