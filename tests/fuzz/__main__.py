"""`python -m tests.fuzz reader|decoder|sandbox SECONDS`: the longer form, which atheris guides by the code reached.

An input that fails is kept and named; its bytes, given to `check`, are a test. Status 1 when there was one.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

INSTRUMENTED = {
    "reader": ["shipper.journal", "shipper.delivery", "shipper.lines"],
    "decoder": ["shipper.lines", "shipper.sinks"],
    "sandbox": ["shipper.sandbox", "shipper.lines"],
}
MAX_BYTES = 256
RSS_MB = 1024  # a bomb that is unpacked, or numbers that become lists


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in INSTRUMENTED or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    name, seconds = sys.argv[1:]
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not here, and not for every Python: .venv/bin/pip install atheris")
    with atheris.instrument_imports(include=INSTRUMENTED[name]):
        module = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    check: Callable[[bytes], object]
    if name == "reader":
        truth = module.make()

        def check(data: bytes) -> None:
            module.check(truth, data)
    elif name == "decoder":
        check = module.check
    else:
        for logger in ("aiohttp", "asyncio"):  # as `shipper sandbox` has it: what they say is not looked at
            logging.getLogger(logger).addHandler(logging.NullHandler())
        check = module.Target().check
    place = Path(tempfile.mkdtemp(prefix=f"shipper-fuzz-{name}-"))
    corpus = place / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(module.SEEDS):
        (corpus / str(number)).write_bytes(seed)
    print(f"{name}: {seconds} s, what is found is kept in {place}", flush=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_BYTES}",
        f"-rss_limit_mb={RSS_MB}",
        "-timeout=20",
        "-len_control=0",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={place}/", "-print_final_stats=1", str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
