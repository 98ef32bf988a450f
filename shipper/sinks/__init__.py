"""The sinks, one file a service: what a provider is sent, and one request that sends it.

In: slices of `lines.Events` and the facts of their run. Out: a `Body` (pure), and what the provider made of it: None
for all taken, an `Acceptance` for a part, or one of the three errors of `base`. A sink never retries, splits, spools,
counts or logs: the sender in delivery does that for all of them alike. Which sinks exist stands in `config.registry`.

Reading order: base (the contract), datadog (the plainest sink), http (one client for all), way (what goes wrong on the
way, in words), certificates (whose are trusted), parts (what several sinks need), sentry_issue (a crash for Sentry).

Knows lines, the journal's facts, config and messages; nothing of delivery. A new sink is one file here and one line in
the registry; tests/sinks/test_contract.py then runs on it by itself.
"""
