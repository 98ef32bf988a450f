"""Agents that do what none should: ``python -I tricks.py TRICK [ARGUMENT...]``; each trick says what it does."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time


def put(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def lines(stream: int, first: int, count: int, size: int = 100) -> bytes:
    """Numbered ones, as `flood` prints them."""
    return b"".join(
        b"%d %d ".ljust(size - 1, b"x") % (stream, number) + b"\n" for number in range(first, first + count)
    )


def flood(count: str) -> None:
    """COUNT lines on each stream, both at once."""

    def fill(stream: int) -> None:
        for first in range(0, int(count), 1000):
            put(stream, lines(stream, first, min(1000, int(count) - first)))

    threads = [threading.Thread(target=fill, args=(stream,)) for stream in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def endless(megabytes: str) -> None:
    """So many MB without a newline."""
    for _ in range(int(megabytes)):
        put(1, b"x" * 1_000_000)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def binary(size: str) -> None:
    """Any bytes; on stderr the same number, other ones."""
    put(1, noise(int(size)))
    put(2, noise(int(size) + 1)[:-1])


def closes() -> None:
    """Words without a newline on both streams, closes these, and ends with 9 when told so."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for fd in (1, 2):
        put(fd, b"last words on %d" % fd)
        os.close(fd)
    signal.sigwait([signal.SIGTERM])
    os._exit(9)


def drains(count: str, release: str = "") -> None:
    """Told to end, it prints on: COUNT lines, one in 100 ms, and lives on until the file RELEASE is there; a second
    TERM would be printed, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    put(1, b"ready\n")
    signal.sigwait([signal.SIGTERM])
    for number in range(int(count)):
        put(1 + number % 2, b"draining %d\n" % number)
        if signal.sigtimedwait([signal.SIGTERM], 0.1):
            put(1, b"told again\n")
    while release and not os.path.exists(release):
        time.sleep(0.01)


def stubborn(count: str) -> None:
    """Prints COUNT lines, heeds no TERM, prints as many after it, and lives on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    put(1, lines(1, 0, int(count)))
    signal.sigwait([signal.SIGTERM])
    put(1, lines(1, int(count), int(count)))
    while True:
        time.sleep(60)


def daemon() -> None:
    """Puts itself into the background as daemons do, but keeps its outputs; the first process ends with 4."""
    if os.fork():
        os._exit(4)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    put(1, b"in the background\n")
    signal.sigwait([signal.SIGTERM])
    put(1, b"told\n")
    put(2, b"told, too\n")


def orphans(count: str) -> None:
    """COUNT processes whose parents end at once. Each prints a line, and another one when told to end, the first of
    them at once and each other 5 ms later. It itself is ended by that signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for number in range(int(count)):
        child = os.fork()
        if not child:
            if not os.fork():
                put(1, b"here %d\n" % number)
                signal.sigwait([signal.SIGTERM])
                time.sleep(number * 0.005)
                put(1, b"gone %d\n" % number)
            os._exit(0)
        os.waitpid(child, 0)
    put(2, b"ready\n")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while True:
        time.sleep(60)


def ticks(seconds: str) -> None:
    """A line every 20 ms, whatever it is sent; ends with 6 after so many seconds."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in range(int(float(seconds) * 50)):
        put(1, b"tick %d\n" % number)
        time.sleep(0.02)
    os._exit(6)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
