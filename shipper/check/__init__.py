"""``shipper check``: says of every sink where it would send and whether it may, by one test line to each.

In: the environment, as `shipper run` would read it. Out: a `Report`, as lines for a person or as one JSON object, and
an exit status. Three looks, one file each: probe (a sink: name, TLS, the answer to the test line), place (the journal's
directory, found as the wrapper would but without making anything there), report (who is speaking, what is wrong with a
variable, and all of it together). command is what a person types.

Begins no run, makes no directory, moves no cursor: it may be called beside a running wrapper and before the first one.
Knows sinks, lines, journal, config and messages.
"""
