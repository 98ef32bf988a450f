"""The environment, parsed once; every mistake in it becomes one sentence and none keeps the agent from running.

In: the variables, and for the agent's name its command and its directory. Out: `Settings` with its `Problem`s, the
secrets (`secret`, asked for where they are used), what of the environment must never leave (needles), the agent's host
and source (identity), what the container allows and uses (container), and what the worker may hold of its memory
(budget).
Knows no other room. PID 1 imports it, so it is standard library only and loads json, tomllib, shlex and difflib no
sooner than a file or a mistake asks for them.
"""

from shipper.config.problems import Problem
from shipper.config.secrets import in_quotes, secret, variable_of
from shipper.config.settings import Settings, load

__all__ = ["Problem", "Settings", "in_quotes", "load", "secret", "variable_of"]
