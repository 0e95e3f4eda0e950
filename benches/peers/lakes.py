"""The files that all engines read: made once with `rankmill generate`, then kept."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

DAYS = 10


@dataclass(frozen=True)
class Shape:
    """What `rankmill generate` is asked for, and so the folder's name."""

    clicks: int
    users: int = 4_000_000
    zipf_items: float = 1.1
    zipf_users: float = 0.6

    @property
    def web_requests(self) -> int:
        return self.clicks // 5

    @property
    def name(self) -> str:
        # The first number is that of what the generator makes: `truth::VERSION`.
        sizes = f"v2_clicks-{self.clicks}_users-{self.users}"
        return f"{sizes}_items-{self.zipf_items:g}_activity-{self.zipf_users:g}"

    def lake(self, rankmill: Path) -> Path:
        """The lake's folder, generated if it is not there yet."""
        lake = _data_folder() / self.name
        if lake.exists():
            return lake
        print(f"generating {lake}", file=sys.stderr)
        # Renamed when whole: a run that was cut off leaves nothing that looks like a lake.
        unfinished = lake.with_name(f"{lake.name}.unfinished")
        options = {
            "rows": self.clicks,
            "web-rows": self.web_requests,
            "users": self.users,
            "performances": 20_000,
            "days": DAYS,
            "zipf-items": self.zipf_items,
            "zipf-users": self.zipf_users,
            # The peers' queries have no condition that leaves out clicks without an item.
            "null-item-share": 0,
            "lake": unfinished,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        command: list[str | Path] = [rankmill, "generate", "--replace", "--quiet", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        unfinished.rename(lake)
        return lake


def days(lake: Path) -> list[date]:
    """The dates that there are clicks of."""
    folders = lake.glob("stage/ticket_clicks/date=*")
    return sorted(date.fromisoformat(folder.name.removeprefix("date=")) for folder in folders)


def exponent_of_share(ranks: int, first: float, share: float) -> float:
    """The Zipf exponent for which the `first` part of `ranks` has `share` of all.

    >>> round(exponent_of_share(4_000_000, 0.01, 0.5), 3)
    0.88
    """
    low, high = 0.0, 3.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        held = _mass(round(first * ranks), middle) / _mass(ranks, middle)
        low, high = (middle, high) if held < share else (low, middle)
    return low


def _mass(ranks: int, exponent: float) -> float:
    """The sum of rank^-exponent: the head term by term, the tail by Euler and Maclaurin."""
    head = min(ranks, 1_000)
    total = sum(rank**-exponent for rank in range(1, head + 1))
    if ranks > head:
        power = 1 - exponent
        total += (ranks**power - head**power) / power if power else 0.0
        total += (ranks**-exponent - head**-exponent) / 2
    return total


def _data_folder() -> Path:
    folder = Path(os.environ.get("RANKMILL_BENCH_DATA") or tempfile.gettempdir()) / "rankmill-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
