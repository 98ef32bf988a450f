"""The journal: the only hand-off between the supervisor, the worker and ``shipper logs``.

In:  what the supervisor's pumps read, as raw chunks (`writer.JournalWriter`).
Out: numbered lines (`reader.RunReader`), one cursor a sink (`cursor.CursorFile`), the runs to adopt (`runs`),
     which of them were killed with their container (`notes`), how each ended (`ending`), and the counts of a run for
     `shipper status` (`figures`).
Knows: messages, and of config what the container allows; standard library only, since it lives in PID 1.

On disk
-------
::

    DIR/                                mode 0700
      0019ab3c5d7e9f10-3f2a…/           one directory a run: start in hex nanoseconds, "-", the run's random id
                                        (later than all that was there then: see `runs.begins_at`)
        lock                            flock(LOCK_EX) while the wrapper, or its worker, or an adopter lives
        0000000001.seg  0000000002.seg  segments, at most 1/16 of the bound each; the highest number is written to
        cursor-datadog                  one a sink: two slots written in turn (see `slots`)
        trial                           where its workers have died, if any has (see `delivery.trial`)
        key                             for hashes of personal fields, if there are any (see `delivery.feed`)
        note                            when its wrapper last lived, and with what memory (see `notes`)
        reserve                         a block to give back on a full disk, for the last losses and the end

A segment is a sequence of frames. A frame is a header of 60 bytes (`FRAME` in `frames`, little endian) and a payload:

    ======  ====  ==================================================================================
    offset  size  field
    ======  ====  ==================================================================================
    0       4     magic ``F7 53 4A 31``
    4       1     kind: 1 data, 2 loss, 3 end of stream, 4 end of run, 5 facts
    5       1     stream: 1 stdout, 2 stderr, 0 neither
    6       2     zero
    8       4     payload's length in bytes
    12      8     wall time of the read, ns since the epoch
    20      8     monotonic time of the read, ns
    28      8     *line*: the number of the line that the payload's first byte belongs to (of its first piece)
    36      8     *before*: how many bytes of that line came before
    44      8     *at*: how many bytes of the stream came before
    52      4     CRC-32 of the payload
    56      4     CRC-32 of the 56 bytes before
    ======  ====  ==================================================================================

data
    the raw bytes of one ``read()``, wherever lines begin or end. The supervisor holds no partial line, so none dies
    with it, and a line of 100 MB is no case of its own.
loss
    bytes that passed by without being journalled: the header holds the numbering before, the payload (JSON) the
    numbering after them, how many bytes, and why.
end of stream, end of run
    a last line without newline is complete. The end of the run holds the agent's end (JSON).
facts
    first in every segment, since the first segments are evicted first: the run's facts and the numbering of both
    streams at that place (JSON), so a reader that starts here numbers like one that saw everything.

Numbers
-------
The lines of a stream of a run are numbered from 1. A line longer than ``max_line`` bytes (fixed for the run) counts as
ceil(length / max_line) lines, its pieces, each with a number of its own. Numbers follow from the frames alone: every
reader and every restart numbers alike, after an eviction too. A line of which any byte is lost counts as lost.

Crash cases
-----------
* *Writer killed in the middle of a frame*: the tail is short or fails its CRC. While the run lives a reader waits
  there; when it is dead that is the end of the journal. Nothing is ever appended behind a torn tail: a new start is
  a new run.
* *Disk full, or a short write*: the partial frame is cut away with ``ftruncate``; when that fails too, the segment is
  left behind and a new one begun. Readers never keep bytes of an incomplete frame. The oldest segment goes, emptied
  first, for a reader may have it open; a quota of btrfs gives way only when its transaction has ended, which is asked.
* *Files limited in size (RLIMIT_FSIZE)*: segments of that size, chunks cut to fit one.
* *No inode or descriptor for the next segment*: the present one goes on, up to half of the bound.
* *Corrupt bytes in the middle*: the reader looks for the next frame whose two CRCs hold; what is missing shows as a
  jump of *at* and becomes a counted loss.
* *Segment evicted*: the next facts frame (or the next frame) shows the jump. The last segment of a dead run is
  replaced by one that holds only the facts and the numbering at its end, so that a loss can still be told. Where the
  bound leaves no room even for that, the oldest dead runs go whole, and that is said on stderr.
* *Directory removed while running*: it is made again, with the next segment and each cursor's next values; what was
  in it and not yet read is a loss.
* *Start killed before the run had its name*: a directory ``….new``, removed by a later start.
* *Worker killed*: its cursors say what was accepted; what was in flight is sent again.
* *Wrapper killed*: the run has no end, which its note and the next start tell (see `notes`).
* *No fsync*: what was appended survives the death of every process, not of the node.
"""
