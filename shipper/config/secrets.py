"""Secrets: NAME, or what the file NAME_FILE holds. No function here or elsewhere keeps or shows one."""

from __future__ import annotations

from shipper.config.files import read_text, reason
from shipper.config.problems import Problem, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def secret(environ: Mapping[str, str], name: str, problems: list[Problem] | None = None) -> str | None:
    """The secret without space around it, None when it is not set; what is wrong with it goes to ``problems``.

    Reads the file anew at every call, so that a secret that was replaced in its file is found.
    """
    variable = f"{name}_FILE"
    value = environ.get(name, "").strip()
    path = environ.get(variable, "").strip()
    if value and path:
        problem = f"{variable} is ignored, for {name} is set too: set one of them"
    elif path:
        value, problem = _from_file(variable, path)
    else:
        problem = ""
    if problem and problems is not None:
        problems.append(Problem(variable, problem))
    return value or None


def variable_of(environ: Mapping[str, str], name: str) -> str:
    """NAME_FILE where the secret comes, or would come, from the file; else NAME."""
    file = f"{name}_FILE"
    return file if environ.get(file, "").strip() and not environ.get(name, "").strip() else name


def in_quotes(value: str) -> bool:
    """As `docker run --env-file` leaves them, which takes them for a part of the value."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def _from_file(variable: str, path: str) -> tuple[str, str]:
    """The file's content and a problem's sentence; one of them is empty."""
    instead = "the secret counts as not set"
    if not path.startswith("/"):  # a secret put here by mistake must not be shown
        quotes = "has quotes around it and so " if in_quotes(path) else ""
        what = f"{variable} {quotes}holds no path that begins with / (not shown here, in case it is the secret itself)"
        return "", f"{what}: {instead}"
    try:
        value = read_text(path).strip()
    except (OSError, ValueError) as error:
        return "", f"{variable} names {quoted(path)}, which could not be read ({reason(error)}): {instead}"
    return value, "" if value else f"{variable} names {quoted(path)}, which is empty: {instead}"
