"""The first process of a container: runs the agent as it would run without us, and keeps what it prints.

In:  the agent's command, and what the agent writes to its stdout and stderr.
Out: the same bytes on our own stdout and stderr, the same bytes in the journal, the agent's exit status.
Knows: `journal` (its writer and the numbering), `config` and `messages`. Standard library only, no asyncio, and no
    import before the agent runs but what the spawn itself needs.

In reading order:

    run        `shipper run`: the command line, and what happens when something in here fails
    spawn      the agent's start: signals, descriptors, environment, exit status of a command that cannot be run
    loop       the main thread: waits for signals and children, drives everything else
    signals    who gets a signal (pure)
    course     what follows when the agent has ended: orphans, pipe holders, the last bytes, the drain (pure)
    processes  children and pipe holders, from /proc
    pump       one thread a stream: reads, hands on to the writer, passes on
    writer     one thread: loads the settings, opens the journal, appends to it from a bounded queue
    outfit     what the other rooms give: settings, facts, the journal, the worker's command
    worker     the worker's process: start, restart with back-off, wakes, end
    plain      what is left when all that fails: passing on, forwarding and reaping in one thread

Threads: main, two pumps, the writer. Each may block, on a full stdout, a frozen disk, a slow file system, and none
holds up another one. No lock is shared between them; every counter has one thread that writes it.
"""
