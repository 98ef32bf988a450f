"""The providers' intakes on this machine, as strict as the real ones, with a page that shows what arrives.

In: HTTP requests of any sender. Out: the real service's answer, and what arrived: at `/` for people, as JSON under
`/sandbox/` for tests.

    server.py   routes a request to an intake or to the page; command line; `running()` for tests
    intake.py   what an intake is: claims, admits, verifies, unpacks, settles, shows
    datadog.py, cloudwatch.py, sentry.py, newrelic.py
                one file a provider: bytes in, log entries or the provider's refusal out, each rule with its source;
                pure but for CloudWatch's groups and streams
    store.py    what arrived, bounded; counters that stay exact when old requests are dropped
    ledger.py   which numbers of each run and stream came, did not come, came again
    ranges.py   a set of integers as ranges
    faults.py   what a test or a person asked the sandbox to get wrong
    page/       the page: plain HTML, CSS and JavaScript, no build step, nothing from elsewhere

May know: no other room. A provider is added as one file and one entry in `server.INTAKES`.
"""
