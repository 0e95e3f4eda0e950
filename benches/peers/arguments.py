"""What benches take on their command lines."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection
from pathlib import Path

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}


def binary(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text} is no program; cargo build --release makes it")
    return path


def count(text: str) -> int:
    try:
        return int(float(text.rstrip("kMG")) * _UNITS.get(text[-1:], 1))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: a count, such as 400M") from None


def command(script: str) -> str:
    """As typed, without this machine's folders."""
    words = [re.sub(r"[^=,]*/", "", word) for word in sys.argv[1:]]
    return shlex.join([script, *words])


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """Some of `known`, with commas between."""

    def parse(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
        return text.split(",")

    return parse


def lake(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not any(path.glob("stage/ticket_clicks/date=*")):
        raise argparse.ArgumentTypeError(f"{text} has no stage/ticket_clicks/date=…")
    return path
