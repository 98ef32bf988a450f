"""The worker, the second process: journal in, accepted requests and committed cursors out.

::

    feed         a run's journal, read and decoded once for all sinks that are in step
    source       a run as one sink sees it: what was read and not yet accepted; its cursor; its closing event
    crash        whether the agent has crashed, and its last lines
    sender       one a sink: takes from its sources, encodes, sends, retries, bisects, commits
    health       how a sink does, for `shipper status`
    concurrency  how many requests are under way at once
    retry        when to try again (the only import of tenacity)
    commits      a thread that writes the cursors, so that a frozen disk holds up no request
    adoption     runs whose wrapper died: found, locked, delivered under their own facts, tidied up
    trial        where this process has died before, and what is done about it
    control      the pipe from the supervisor
    start        the process's first steps, before anything large is loaded
    throttle     keeps the process to its share of CPU until the drain
    priority     last in line for CPU and disk, first for the OOM killer
    worker       puts them together

Knows sinks, lines, journal, config and messages. Nothing here touches the agent; when it dies it is started again and
goes on from the cursors.
"""
