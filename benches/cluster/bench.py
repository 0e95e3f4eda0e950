#!/usr/bin/env python3
"""Times runs on a cluster of this machine against the same runs in one process, in turn, and compares what they publish.

See README.md beside this file. Exit codes: 0 done, 1 a run failed or results differ, 2 usage or environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE.parent / "peers"))

import arguments  # noqa: E402
import lakes  # noqa: E402
import rankmill  # noqa: E402
import report  # noqa: E402
from workloads import WORKLOADS, Workload  # noqa: E402

_SCRIPT = "benches/cluster/bench.py"
# Each job of these is one command.
_CHOICE = [name for name, workload in WORKLOADS.items() if len(workload.questions) == 1 and name != "floor"]
_TIMEOUT_SECONDS = 600


@dataclass
class Pairs:
    """A workload's runs in turn, in seconds."""

    workload: str
    title: str
    cluster: list[float] = field(default_factory=list)
    embedded: list[float] = field(default_factory=list)
    rows: int = 0

    @property
    def ratio(self) -> float:
        return statistics.median(self.cluster) / statistics.median(self.embedded)


class Fault(Exception):
    """A run failed, or the two don't publish the same."""


def main() -> int:
    args = _arguments()
    # The cluster and the single process get the same processors.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    shape = lakes.Shape(args.rows)
    try:
        pairs = [_measure(args, WORKLOADS[name], args.lake or shape.lake(args.rankmill)) for name in args.workloads]
    except Fault as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = _page(args, pairs)
    print(page)
    facts = {
        "machine": report.machine(),
        "command": arguments.command(_SCRIPT),
        "threads": args.threads,
        "executors": args.executors,
        "workloads": [asdict(each) for each in pairs],
    }
    report.write_pair(args.output or report.folder(date.today()).parent / "cluster", facts, page)
    return 0


def _measure(args: argparse.Namespace, workload: Workload, lake: Path) -> Pairs:
    """A cluster of its own for each workload, so that none has another's tables."""
    pairs = Pairs(workload.name, workload.title)
    budget = rankmill.Budget(args.threads, _TIMEOUT_SECONDS, sys.maxsize, None)
    with _cluster(args, lake) as url:
        # The first round isn't counted: files get into the page cache, executors build tables.
        for counted in [False] + [True] * args.rounds:
            there, published_there = _run(args.rankmill, workload, lake, budget, [f"--cluster={url}"])
            here, published_here = _run(args.rankmill, workload, lake, budget, [])
            if published_there != published_here:
                raise Fault(f"{workload.name}: the cluster and the single process publish different rows")
            pairs.rows = len(published_here)
            print(f"{workload.name} cluster {there:.2f} s, embedded {here:.2f} s", file=sys.stderr)
            if counted:
                pairs.cluster.append(there)
                pairs.embedded.append(here)
    return pairs


def _run(
    binary: Path, workload: Workload, lake: Path, budget: rankmill.Budget, where: Sequence[str]
) -> tuple[float, list[str]]:
    finished, rows = rankmill.run_one(binary, workload, lake, budget, dict(os.environ), where)
    if finished.exit_code:
        raise Fault(f"{workload.name} {' '.join(where)}: {finished.ended or finished.stderr.strip()}")
    return finished.seconds, rows


@contextmanager
def _cluster(args: argparse.Namespace, lake: Path) -> Iterator[str]:
    """The address of a scheduler with executors, which stop at the end."""
    slots = args.threads // args.executors
    with tempfile.TemporaryDirectory(prefix="rankmill-cluster-") as work:
        command: list[str | Path] = [args.rankmill, "dev", f"--lake={lake}", f"--executors={args.executors}"]
        command += [f"--slots={slots}", "--port=0", f"--work-dir={work}", "--format=json", "--until-stdin-ends"]
        with open(Path(work) / "log", "w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdin and process.stdout
        try:
            ready = process.stdout.readline()
            if not ready:
                raise Fault(f"the cluster didn't start: {(Path(work) / 'log').read_text().strip()}")
            yield json.loads(ready)["cluster"]
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _page(args: argparse.Namespace, pairs: Sequence[Pairs]) -> str:
    version = subprocess.run([args.rankmill, "--version"], capture_output=True, text=True, check=True)
    lines = [
        f"# The cluster and a single process, {date.today()}",
        "",
        f"Host: {report.machine()}. {version.stdout.strip()}. Command: `{arguments.command(_SCRIPT)}`.",
        f"{args.executors} executors and a scheduler against one process with {args.threads} threads, on the same cores and files, in turn;",
        "whole commands, after a pair that isn't counted. Both published the same rows.",
        "",
        "| workload | cluster, s | one process, s | medians | ratio |",
        "|---|---|---|---|--:|",
    ]
    for each in pairs:
        shown = [" ".join(f"{seconds:.2f}" for seconds in runs) for runs in (each.cluster, each.embedded)]
        medians = f"{statistics.median(each.cluster):.2f} / {statistics.median(each.embedded):.2f}"
        lines.append(
            f"| {each.workload}: {each.title} | {shown[0]} | {shown[1]} | {medians} | {each.ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rankmill", type=arguments.binary, required=True, help="the release binary")
    names = f"of {', '.join(_CHOICE)}; default: W2,W3"
    add("--workloads", type=arguments.names(_CHOICE), default=["W2", "W3"], help=names)
    add("--rows", type=arguments.count, default=arguments.count("100M"), help="clicks of the lake; default: 100M")
    add("--lake", type=arguments.lake, help="a lake that is there")
    add("--executors", type=int, default=2, help="default: 2")
    add("--threads", type=int, default=2, help="processors for either side; default: 2")
    add("--rounds", type=int, default=5, help="pairs of runs; default: 5")
    add("--output", type=Path, help="folder for the results; default: benches/runs/DATE-HOST/cluster")
    args = parser.parse_args()
    if args.threads % args.executors:
        parser.error("--threads: as many for each executor")
    return args


if __name__ == "__main__":
    sys.exit(main())
