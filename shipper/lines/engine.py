"""google-re2, where there is a wheel of it: the one place that imports it, 1.5 MB of code and 0.2 MiB of memory."""

from __future__ import annotations

from typing import Any

try:
    import re2
except ImportError:
    re2 = None

RE2: Any = re2
"""The module, or None."""
