"""Lines in, events out: what a provider's page will show is decided here, and nowhere else.

In: a `Batch`, the bytes of some lines of one stream. Out: `Events`, the same lines as columns (message, level, time,
fields), one decoding for however many sinks are in step. Pure: no clock, no file, no network, and nothing raises for
anything that an agent can print. Knows no other room but the journal's names of the streams.

Reading order: batch (what comes in), events (what goes out), joining (which lines are one event), problems (what went
wrong in one), masking (takes secrets out before anything else sees the lines), decoder (the way), text (cleaned for a
page), times, levels and names (its tables), formats and dialects (what text and JSON of each logger tell), fields
(errors and traces under one name each), calls (what lines before tell of the call of a line), filters (what is left
out or taken out); loose reads JSON that is none by the letter, plain is the way of last resort; crash and tracebacks
are for an issue tracker.
"""
