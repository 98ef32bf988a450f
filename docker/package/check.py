"""Imports everything that the package holds, with the package's own interpreter, from its place in /opt/shipper.

Something pared off that is missed, a library that is not in the package, one that came from the image that builds it:
each is a sentence and the status 1, and no image comes of it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = "/opt/shipper"
PACKAGES = f"{HOME}/packages"
STDLIB = f"{HOME}/lib/python{sys.version_info[0]}.{sys.version_info[1]}"

OTHER_SYSTEMS = {"_overlapped", "_scproxy", "_winapi", "_winreg", "_wmi", "msvcrt", "nt", "winreg"}


def main() -> int:
    sys.path.append(PACKAGES)
    sys.argv = ["check"]
    faults: list[str] = []
    names = [*modules(STDLIB), *modules(f"{STDLIB}/lib-dynload"), *modules(PACKAGES)]
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if misses(error):
                faults.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001  sentry_sdk's say so when what they integrate is not there
            if name.startswith("shipper"):
                faults.append(f"{name}: {type(error).__name__}: {error}")
    faults += [f"{path} is not the package's" for path in sorted(foreign())]
    for fault in faults:
        sys.stderr.write(f"check: {fault}\n")
    print(f"check: {len(names)} modules, {len(faults)} faults")
    return 1 if faults else 0


def modules(directory: str, package: str = "") -> Iterator[str]:
    """Names of all that could be imported from there."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        stem, _, rest = entry.name.partition(".")
        name = f"{package}{stem}"
        if entry.is_dir() and stem.isidentifier() and not rest and stem != "lib-dynload":
            if os.path.exists(f"{entry.path}/__init__.pyc"):
                yield name
                yield from modules(entry.path, f"{name}.")
        elif entry.name.endswith((".pyc", ".so")) and stem.isidentifier() and stem not in ("__init__", "__main__"):
            yield name


def misses(error: ImportError) -> bool:
    """Whether what could not be imported should be here: not a package that somebody else may have installed."""
    missing = (error.name or "").partition(".")[0]
    if missing in OTHER_SYSTEMS:
        return False
    return not missing or missing in sys.stdlib_module_names or os.path.exists(f"{PACKAGES}/{missing}")


def foreign() -> set[str]:
    """Files mapped into this process that are not the package's."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split(None, 5)[5].strip() for line in maps if "/" in line}
    home = os.path.realpath(HOME)
    return {path for path in paths if not path.startswith((f"{HOME}/", f"{home}/"))}


if __name__ == "__main__":
    sys.exit(main())
