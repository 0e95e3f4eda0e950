"""Times rankmill against its peers on the same files, and checks that all give the same rows.

Exit codes: 0 done, 1 results differ, 2 usage or environment.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import arguments
import report
from engines import PEERS
from lakes import Shape, exponent_of_share
from measure import OURS, Bench, Case, Result
from rankmill import Budget
from workloads import WORKLOADS, Workload

_HERE = Path(__file__).parent
_MANY_USERS = 40_000_000


def main() -> int:
    args = _arguments()
    results: list[Result] = []
    # So that it ends what it has started, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench = _bench(args)
        for case in _cases(args):
            result = bench.measure(case)
            results.append(result)
            print(f"\n{report.table([result])}\n\n{report.verdict([result])}\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if results:
        report.write(args.output or report.folder(date.today()), _facts(args, results), results)
    return 1 if any(result.differences for result in results) else 0


def _bench(args: argparse.Namespace) -> Bench:
    setup = subprocess.run([_HERE / "setup"], check=True, stdout=subprocess.PIPE, text=True)
    # No engine gets more processors, whatever it does with its number of threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    budget = Budget(args.threads, args.timeout, _most_of_memory(), args.memory)
    python = Path(setup.stdout.strip())
    return Bench(args.rankmill, python, args.engines, args.rounds, budget)


def _cases(args: argparse.Namespace) -> Iterator[Case]:
    """The workloads as asked, then, with `--sweep`, each over other skews."""

    def case(workload: Workload, shape: Shape, variant: str = "") -> Case:
        if workload.many_users:
            shape = Shape(shape.clicks, _MANY_USERS, shape.zipf_items, shape.zipf_users)
        given = args.many_users_lake if workload.many_users else args.lake
        return Case(workload, given if given and not variant else shape.lake(args.rankmill), variant)

    chosen = [WORKLOADS[name] for name in args.workloads]
    base = Shape(args.rows, zipf_items=args.zipf)
    for workload in chosen:
        memory = f"in {args.memory >> 20} MiB" if args.memory else ""
        yield Case(workload, case(workload, base).lake, memory)
    if args.sweep:
        for workload in chosen:
            users = _MANY_USERS if workload.many_users else Shape.users
            # One user in a hundred makes half of the clicks.
            few = exponent_of_share(users, 0.01, 0.5)
            rows = args.sweep_rows
            for items in (0.0, 1.1, 1.5):
                if args.lake or Shape(rows, zipf_items=items) != base:
                    yield case(workload, Shape(rows, zipf_items=items), f"items Zipf {items:g}")
                shape = Shape(rows, zipf_items=items, zipf_users=round(few, 3))
                yield case(workload, shape, f"items Zipf {items:g}, 1 % of users half of clicks")
    for rows in args.sizes:
        yield case(WORKLOADS["W3"], Shape(rows, zipf_items=args.zipf), f"{rows // 10**6} M clicks")


def _facts(args: argparse.Namespace, results: Sequence[Result]) -> dict[str, object]:
    said = subprocess.run([args.rankmill, "--version"], capture_output=True, text=True).stdout
    versions = {OURS: said.split()[-1]}
    for result in results:
        versions |= {record.engine: record.version for record in result.records if record.version}
    return {
        "date": str(date.today()),
        "machine": report.machine(),
        "command": arguments.command("benches/peers/bench.py"),
        "versions": versions,
        "source": _source(),
        "threads": args.threads,
        "rounds": args.rounds,
        "timeout_seconds": args.timeout,
        "memory_bytes": args.memory,
    }


def _source() -> str:
    """The commit that this file is of, which the binary should be of too."""
    command = ["git", "-C", _HERE, "describe", "--always", "--dirty", "--abbrev=10"]
    said = subprocess.run(command, capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def _most_of_memory() -> int:
    """An engine that takes more is ended, before the system ends something else."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 85 // 100


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rankmill", type=arguments.binary, required=True, help="the release binary")
    add(
        "--workloads",
        type=arguments.names(WORKLOADS),
        default=list(WORKLOADS),
        help="such as W1,W3,floor; default: all",
    )
    engines = [OURS, *PEERS]
    add("--engines", type=arguments.names(engines), default=engines, help="such as rankmill,duckdb; default: all")
    add("--rounds", type=int, default=3, help="runs of each engine, in turn; default: 3")
    add("--timeout", type=float, default=300, help="seconds that one run may take; default: 300")
    add("--threads", type=int, default=2, help="default: 2")
    add("--memory", type=_bytes, help="limit that each engine is told, such as 1G; default: none")
    add("--rows", type=arguments.count, default=arguments.count("100M"), help="clicks of the generated lake; default: 100M")
    add("--zipf", type=float, default=1.1, help="skew of its items; default: 1.1")
    add("--lake", type=arguments.lake, help="a lake that is there, for all workloads but W5")
    add("--many-users-lake", type=arguments.lake, help="the same for W5")
    add("--sweep", action="store_true", help="also other skews of items and of users")
    add("--sweep-rows", type=arguments.count, default=arguments.count("100M"), help="clicks of those lakes; default: 100M")
    add("--sizes", type=_counts, default=[], help="also W3 over so many clicks, such as 10M,100M,400M")
    add("--output", type=Path, help="folder for the results; default: benches/runs/DATE-HOST/peers")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [arguments.count(each) for each in text.split(",")]


def _bytes(text: str) -> int:
    try:
        shift = {"M": 20, "G": 30}[text.removesuffix("iB")[-1:]]
        return int(text.removesuffix("iB")[:-1]) << shift
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text}: a size, such as 1G or 512M") from None


if __name__ == "__main__":
    sys.exit(main())
