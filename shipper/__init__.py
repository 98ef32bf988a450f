"""Forwards the logs of one self-hosted LiveKit agent; this docstring is the map of how.

What flows:

    agent ──pipes──▶ supervisor (PID 1) ──▶ its own stdout and stderr, byte for byte
                          │ append
                          ▼
                       journal (bounded files) ──▶ shipper logs
                          │ tail, one cursor a sink
                          ▼
                       worker: lines ──▶ sinks ──▶ provider

Two processes and one file format between them. A line's way from pipe to provider, in reading order:

    supervisor/   PID 1: spawns the agent, forwards signals, reaps; a pump a stream reads and passes on, the writer
                  appends; starts the worker as a process of its own. Standard library only
    journal/      the format on disk, its writer and its reader, which cuts and numbers lines; cursors, the bound,
                  runs and their adoption. Standard library only
    delivery/     the worker: one sender around each sink reads, retries, bisects, commits
    lines/        a batch of bytes in, events as columns out. Pure: no clock, no file, no network
    sinks/        one file a service: a body out of events (pure), and one request that sends it

Beside that way:

    __main__.py   argv in, exit status out; imports what a command needs and no more
    commands/     logs and status: show what the journal and the run's files hold; build: keeps what a build step
                  prints. Standard library only
    check/        asks each provider whether it would take a line, and says what is wrong with what
    sandbox/      the providers' intakes on this machine, with a page that shows what arrives
    config/       the environment, read once; every mistake in it becomes a sentence. Standard library only
    messages.py   the program's own lines on stderr. Standard library only

Who may import whom, top to bottom, a room only what stands below it (import-linter checks it):

    __main__
    commands | check | sandbox | supervisor | delivery      these five know nothing of each other
    sinks
    lines
    journal
    config
    messages

So the supervisor and the journal know nothing of lines, lines nothing of sinks, sinks nothing of delivery. The
docstring of each room says what comes in and what goes out.
"""

__version__ = "0.1.0"
