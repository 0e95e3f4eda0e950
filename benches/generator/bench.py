#!/usr/bin/env python3
"""Times rankmill's generator against tpchgen-cli and Spark, in turn, and reads what it made back with other engines.

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

_HERE = Path(__file__).parent
_SCRIPT = "benches/generator/bench.py"
sys.path.insert(0, str(_HERE.parent / "peers"))

import arguments  # noqa: E402
import peers  # noqa: E402
import processes  # noqa: E402
import report  # noqa: E402

OURS = "rankmill"
TPCHGEN = "tpchgen-cli"
SPARK = "spark"
READERS = ["duckdb", "polars", "spark"]


@dataclass
class Record:
    """The runs of one generator. Cells are rows times columns."""

    name: str
    what: str
    cells: int = 0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_memory_bytes: list[int] = field(default_factory=list)
    megabytes: float = 0.0
    message: str = ""

    @property
    def wall(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Cells a CPU-second; of Spark, whose JVM is a child, a second on all of its threads."""
        return self.cells / statistics.median(self.cpu_seconds)


def main() -> int:
    args = _arguments()
    setup = subprocess.run([_HERE.parent / "peers" / "setup"], check=True, capture_output=True, text=True)
    python = Path(setup.stdout.strip())
    with tempfile.TemporaryDirectory(prefix="rankmill-generator-", dir=args.data) as data:
        records = _measure(args, python, Path(data))
        faults = _read_back(args, python, Path(data)) if args.read_back else None
    page = _page(args, records, faults)
    print(page)
    _write(args, records, faults, page)
    return 1 if faults or any(record.message for record in records) else 0


def _measure(args: argparse.Namespace, python: Path, data: Path) -> list[Record]:
    columns = f"{args.rows:,} clicks of 8 columns, {args.profile}, {args.users:,} users"
    ours = Record(OURS, columns)
    lineitem = Record(TPCHGEN, f"lineitem of 16 columns, scale factor {args.scale_factor}")
    spark = Record(SPARK, f"{args.spark_rows:,} clicks of 8 columns, `range` and `rand`")
    out = data / "out"
    commands: list[tuple[Record, Sequence[str | Path]]] = [
        (ours, [
            args.rankmill, "generate", "--quiet", f"--lake={out}", f"--rows={args.rows}", "--web-rows=0",
            f"--users={args.users}", f"--days={args.days}", f"--profile={args.profile}", f"--threads={args.threads}",
        ]),
        (lineitem, [
            python.parent / "tpchgen-cli", "parquet", f"--scale-factor={args.scale_factor}", "--tables=lineitem",
            "--compression=ZSTD(1)", f"--num-threads={args.threads}", f"--output-dir={out}", "--quiet",
        ]),
    ]  # fmt: skip
    if args.spark_rows:
        writer = _HERE / "spark_writer.py"
        command = [python, writer, out, str(args.spark_rows), f"--threads={args.threads}", f"--days={args.days}"]
        commands.append((spark, command))
    for number in range(args.rounds):
        for record, command in commands:
            if record.message or (record is spark and number > 0):
                continue
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            _run(args, python, record, command, out)
    return [record for record, _ in commands]


def _run(
    args: argparse.Namespace, python: Path, record: Record, command: Sequence[str | Path], out: Path
) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 85 // 100
    environment = peers.environment(args.threads)
    finished = processes.run(command, args.timeout, memory, environment)
    if finished.exit_code != 0:
        record.message = finished.ended or finished.stderr.strip().splitlines()[-1][:300]
        print(f"{record.name:12} {record.message}", file=sys.stderr)
        return
    seconds, cpu = finished.seconds, finished.cpu_seconds
    if record.name == SPARK:
        # Without the session's start, as in benches/peers.
        seconds = json.loads(finished.stdout.splitlines()[-1])["seconds"]
        cpu = seconds * args.threads
    record.seconds.append(seconds)
    record.cpu_seconds.append(cpu)
    record.peak_memory_bytes.append(finished.peak_memory_bytes)
    # Dimensions are made too, but not counted.
    folder = out / "stage" if record.name == OURS else out
    files = list(folder.rglob("*.parquet"))
    record.megabytes = sum(file.stat().st_size for file in files) / 1e6
    count = (
        "import sys, pyarrow.parquet as pq\n"
        "files = [pq.read_metadata(path) for path in sys.stdin.read().split('\\n')]\n"
        "print(sum(file.num_rows * file.num_columns for file in files))"
    )
    names = "\n".join(map(str, files))
    counted = subprocess.run([python, "-c", count], input=names, capture_output=True, text=True, check=True)
    record.cells = int(counted.stdout)
    rate = record.cells / cpu / 1e6
    print(f"{record.name:12} {seconds:.2f} s, {cpu:.2f} CPU-s, {rate:.1f} M cells/CPU-s", file=sys.stderr)


def _read_back(args: argparse.Namespace, python: Path, data: Path) -> dict[str, list[str]]:
    """What each reader finds to be otherwise than the truth says; of a smaller lake with everything in it."""
    lake = data / "small"
    subprocess.run(
        [args.rankmill, "generate", "--quiet", f"--lake={lake}", "--rows=2M", "--web-rows=500k", "--days=3",
         "--profile=brutal", "--users=100k", "--rows-per-file=300k"],
        check=True,
    )  # fmt: skip
    found: dict[str, list[str]] = {}
    sums: dict[str, dict[str, object]] = {}
    for reader in READERS:
        command = [python, _HERE / "read_back.py", reader, lake]
        read = subprocess.run(command, capture_output=True, text=True, env=peers.environment(args.threads))
        lines = read.stdout.splitlines()
        if read.returncode == 0 and lines:
            said = json.loads(lines[-1])
            found[reader], sums[reader] = said["faults"], said["sums"]
            first = sums[next(iter(sums))]
            differing = [name for name, rows in sums[reader].items() if rows != first[name]]
            found[reader] += [f"sums of {name} are not those of {next(iter(sums))}" for name in differing]
        else:
            found[reader] = [read.stderr[-500:]]
        print(f"{reader:12} {found[reader] or 'reads it right'}", file=sys.stderr)
    return {reader: faults for reader, faults in found.items() if faults}


def _page(args: argparse.Namespace, records: list[Record], faults: dict[str, list[str]] | None) -> str:
    lines = [
        f"# The generator, {date.today()}",
        "",
        f"{report.machine()}; {args.threads} threads; `{arguments.command(_SCRIPT)}`; medians of {args.rounds} (Spark: one run).",
        "",
        "| generator | what | seconds | CPU-seconds | M cells/CPU-s | × tpchgen-cli | peak MiB | MB |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    peer = next((each for each in records if each.name == TPCHGEN and each.seconds), None)
    for each in records:
        if not each.seconds:
            lines.append(f"| {each.name} | {each.what} | {each.message} | | | | | |")
            continue
        ratio = f"{each.rate / peer.rate:.2f}" if peer else ""
        cpu = statistics.median(each.cpu_seconds)
        lines.append(
            f"| {each.name} | {each.what} | {each.wall:.2f} | {cpu:.2f} | {each.rate / 1e6:.1f} | {ratio} "
            f"| {max(each.peak_memory_bytes) >> 20} | {each.megabytes:.0f} |"
        )
    if faults is not None:
        said = "; ".join(f"{reader}: {', '.join(each)}" for reader, each in faults.items())
        lines += ["", f"Read back by {', '.join(READERS)}: {said or 'types, rows, nulls, dates and rankings are those of the truth, and sums of all columns the same'}."]
    return "\n".join(lines) + "\n"


def _write(
    args: argparse.Namespace, records: list[Record], faults: dict[str, list[str]] | None, page: str
) -> None:
    into = args.output or report.folder(date.today()).parent / "generator"
    version = subprocess.run([args.rankmill, "--version"], capture_output=True, text=True, check=True)
    facts = {
        "machine": report.machine(),
        "command": arguments.command(_SCRIPT),
        "threads": args.threads,
        "versions": {OURS: version.stdout.strip(), "peers": (_HERE.parent / "peers" / "requirements.txt").read_text()},
        "records": [asdict(record) for record in records],
        "read_back": faults,
    }
    report.write_pair(into, facts, page)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rankmill", type=arguments.binary, required=True, help="the release binary")
    add("--rows", type=arguments.count, default=arguments.count("100M"), help="clicks; default: 100M")
    add("--users", type=arguments.count, default=arguments.count("4M"), help="default: 4M")
    add("--days", type=int, default=10, help="default: 10")
    add("--profile", default="realistic", help="uniform, realistic or brutal; default: realistic")
    add("--scale-factor", type=int, default=5, help="of TPC-H's lineitem, 6 M rows each; default: 5")
    add("--spark-rows", type=arguments.count, default=arguments.count("20M"), help="clicks that Spark writes; 0 leaves it out; default: 20M")
    add("--rounds", type=int, default=5, help="default: 5")
    add("--threads", type=int, default=2, help="default: 2")
    add("--timeout", type=float, default=600, help="seconds that one run may take; default: 600")
    add("--no-read-back", dest="read_back", action="store_false", help="leaves out reading with other engines")
    add("--data", type=Path, help="folder for what is written, removed at the end; default: that for temporary files")
    add("--output", type=Path, help="folder for the results; default: benches/runs/DATE-HOST/generator")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
