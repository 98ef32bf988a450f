"""Events of many lines as programs print them: recorded output, paths shortened. Each is one event, whole."""

from __future__ import annotations

ONE_EVENT = {
    "python": """\
Traceback (most recent call last):
  File "/app/agent.py", line 31, in entrypoint
    deep(3)
    ~~~~^^^
  File "/app/agent.py", line 17, in deep
    return deep(n - 1)
  [Previous line repeated 994 more times]
RecursionError: maximum recursion depth exceeded""",
    "python, chained": """\
Traceback (most recent call last):
  File "/app/a.py", line 2, in f
    {}["k"]
KeyError: 'k'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/a.py", line 4, in f
    raise ValueError("v") from None
ValueError: v

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/a.py", line 9, in <module>
    f()
my.package.MyError""",
    "python, a message of several lines in the chain": """\
Traceback (most recent call last):
  File "/app/a.py", line 2, in f
    f()
ValueError: bad value: 42
second line of the message
a note

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/a.py", line 9, in <module>
    f()
socket.timeout: timed out""",
    "python, logged": """\
ERROR:root:pool
concurrent.futures.process._RemoteTraceback: \n\"\"\"
Traceback (most recent call last):
  File "/usr/lib/python3.11/concurrent/futures/process.py", line 261, in _process_worker
    r = call_item.fn(*call_item.args, **call_item.kwargs)
ZeroDivisionError: division by zero
\"\"\"

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/t.py", line 18, in <module>
    try: e.submit(z).result()
ZeroDivisionError: division by zero""",
    "python, a logged message of several lines": """\
2026-11-24 03:55:35,005 - my-agent - ERROR - caught in job
Traceback (most recent call last):
  File "/app/agent.py", line 16, in deep
    raise ValueError("bad value: 42\\nsecond line of the message")
ValueError: bad value: 42
second line of the message
third""",
    "python, a message that goes on before the traceback": """\
WARNING:root:caught
  in a call
Traceback (most recent call last):
  File "/app/a.py", line 2, in f
    f()
ValueError: x""",
    "python, in the logger's line": """\
ERROR:    Traceback (most recent call last):
  File "/app/.venv/lib/python3.11/site-packages/starlette/routing.py", line 734, in lifespan
    async with self.lifespan_context(app) as maybe_state:
RuntimeError: no database""",
    "python, a group": """\
WARNING:root:grp
Traceback (most recent call last):
  File "/app/t.py", line 23, in <module>
    try: 1/0
         ~^~
ZeroDivisionError: division by zero

The above exception was the direct cause of the following exception:

  + Exception Group Traceback (most recent call last):
  |   File "/app/t.py", line 24, in <module>
  |     except Exception as e: raise ExceptionGroup("g", [ValueError(1)]) from e
  | ExceptionGroup: g (2 sub-exceptions)
  | note 1
  +-+---------------- 1 ----------------
    | ValueError: 1
    +---------------- 2 ----------------
    | ExceptionGroup: h (1 sub-exception)
    +-+---------------- 1 ----------------
      | KeyError: 'x'
      +------------------------------------
Stack (most recent call last):
  File "/app/t.py", line 25, in <module>
    logging.error("grp", exc_info=True, stack_info=True)""",
    "python, no header": """\
  File "/app/s.py", line 1
    def f(:
          ^
SyntaxError: invalid syntax""",
    "python, indented": """\
    Traceback (most recent call last):
      File "/app/s.py", line 1, in f
    ValueError: x""",
    "python 3.13, coloured": """\
Traceback (most recent call last):
  File \x1b[35m"/app/a.py"\x1b[0m, line \x1b[35m3\x1b[0m, in \x1b[35m<module>\x1b[0m
    \x1b[31mf\x1b[0m\x1b[1;31m()\x1b[0m
    \x1b[31m~\x1b[0m\x1b[1;31m^^\x1b[0m
\x1b[1;35mValueError\x1b[0m: \x1b[35mx\x1b[0m""",
    "loguru": """\
2026-11-24 04:00:00.123 | ERROR    | __main__:<module>:9 - caught
Traceback (most recent call last):

> File "/app/a.py", line 7, in <module>
    f()
    └ <function f at 0x7f033f89d120>

  File "/app/a.py", line 4, in f
    return 1 / 0

ZeroDivisionError: division by zero""",
    "sqlalchemy": """\
Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
    f()
sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) connection to server failed
\tIs the server running on that host and accepting TCP/IP connections?

[SQL: SELECT 1]
(Background on this error at: https://sqlalche.me/e/20/e3q8)""",
    "pydantic": """\
Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
    f()
pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings
api_key
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.10/v/missing
nested.url
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.10/v/missing""",
    "grpc": """\
Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
    f()
grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:
\tstatus = StatusCode.UNAVAILABLE
\tdetails = "no route"
>""",
    "a line that ends in a colon": """\
Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
    f()
RuntimeError: Failed to import x because of the following error:
No module named 'foo'""",
    "asyncio": """\
Task exception was never retrieved
future: <Task finished name='Task-2' coro=<b() done, defined at /app/t.py:2> exception=ValueError('x')>
Traceback (most recent call last):
  File "/app/t.py", line 2, in b
    async def b(): raise ValueError("x")
ValueError: x""",
    "aiohttp": """\
Unclosed client session
client_session: <aiohttp.client.ClientSession object at 0x7f033f89d120>""",
    "a coroutine not awaited": """\
/app/t.py:6: RuntimeWarning: coroutine 'b' was never awaited
  b()
RuntimeWarning: Enable tracemalloc to get the object allocation traceback""",
    "logging": """\
--- Logging error ---
Traceback (most recent call last):
  File "/usr/lib/python3.11/logging/__init__.py", line 377, in getMessage
    msg = msg % self.args
          ~~~~^~~~~~~~~~~
TypeError: %d format: a real number is required, not str
Call stack:
  File "/app/t.py", line 9, in <module>
    logging.warning("a %d", "x")
Message: 'a %d'
Arguments: ('x',)""",
    "threading": """\
Exception in thread Thread-2 (z):
Traceback (most recent call last):
  File "/app/t.py", line 14, in z
    def z(): 1/0
ZeroDivisionError: division by zero""",
    "a socket not closed": """\
sys:1: ResourceWarning: unclosed <socket.socket fd=3>
Object allocated at (most recent call last):
  File "/app/t.py", lineno 14
    s = socket.socket()""",
    "logging, where it was called": """\
INFO:root:where
Stack (most recent call last):
  File "/app/t.py", line 25, in <module>
    logging.info("where", stack_info=True)""",
    "multiprocessing": """\
Process SpawnProcess-1:
Traceback (most recent call last):
  File "/app/t.py", line 14, in z
    def z(): 1/0
ZeroDivisionError: division by zero""",
    "a finaliser": """\
Exception ignored in: <function D.__del__ at 0x7f033f89d120>
Traceback (most recent call last):
  File "/app/t.py", line 11, in __del__
    def __del__(self): raise KeyError("k")
KeyError: 'k'""",
    "faulthandler": """\
Fatal Python error: Segmentation fault

Thread 0x00007f646b3ff6c0 (most recent call first):
  File "/usr/local/lib/python3.11/threading.py", line 331 in wait

Current thread 0x00007f647cbcab80 (most recent call first):
  File "/usr/local/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "<string>", line 1 in <module>

Extension modules: multidict._multidict, yarl._quoting_c (total: 2)""",
    "faulthandler, a timeout": """\
Timeout (0:00:00.100000)!
Thread 0x00007f0340e82b80 (most recent call first):
  File "/app/t.py", line 27 in <module>""",
    "rich": """\
╭───────────────────── Traceback (most recent call last) ──────────────────────╮
│ /app/agent.py:3 in main                                                      │
│ ❱ 3     raise ValueError("x")                                                │
╰──────────────────────────────────────────────────────────────────────────────╯
ValueError: x""",
    "rich, no traceback": """\
╭─ Error ──────────────────────────────────────────────────────────────────────╮
│ Invalid value for '--log-level' (env var: 'LIVEKIT_LOG_LEVEL')               │
╰──────────────────────────────────────────────────────────────────────────────╯""",
    "livekit dev": """\
2026-11-24 03:55:35,005 - \x1b[33mWARNING\x1b[0m my-agent - a newline
second line \x1b[90m{"room": "test-room-1", "pid": 25051}\x1b[0m""",
    "livekit dev, a traceback in the message and once more": """\
2026-11-24 03:55:35,005 - \x1b[31mERROR\x1b[0m my-agent - caught in job
Traceback (most recent call last):
  File "/app/agent.py", line 16, in deep
    raise ValueError("bad value: 42\\nsecond line of the message")
ValueError: bad value: 42
second line of the message \x1b[90m{"room": "test-room-1", "pid": 25051}\x1b[0m
Traceback (most recent call last):
  File "/app/agent.py", line 16, in deep
    raise ValueError("bad value: 42\\nsecond line of the message")
ValueError: bad value: 42
second line of the message""",
    "node": """\
file:///app/agent.mjs:9
    if (mode === 'throw') { setTimeout(() => { throw new TypeError('uncaught in timer'); }, 100); }
                                               ^

TypeError: uncaught in timer
    at Timeout._onTimeout (file:///app/agent.mjs:9:54)
    at process.processTimers (node:internal/timers:519:7)

Node.js v20.20.2""",
    "node, a module not found": """\
node:internal/modules/cjs/loader:1210
  throw err;
  ^

Error: Cannot find module './nix'
Require stack:
- /app/b.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15)
    at Function.executeUserEntryPoint [as runMain] (node:internal/modules/run_main:164:12) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/app/b.js' ]
}

Node.js v20.20.2""",
    "node, no error thrown": """\
/app/c.js:1
throw "foo"
^
foo
(Use `node --trace-uncaught ...` to show where the exception was thrown)

Node.js v20.20.2""",
    "node, an assertion": """\
node:assert:90
  throw new AssertionError(obj);
  ^

AssertionError [ERR_ASSERTION]: Expected values to be strictly deep-equal:
+ actual - expected

  {
+   a: 1
-   a: 2
  }
    at Object.<anonymous> (/app/h.js:1:39)
    at node:internal/main/run_main_module:28:49 {
  generatedMessage: true,
  code: 'ERR_ASSERTION'
}

Node.js v20.20.2""",
    "node, printed with its cause": """\
Error: o
    at Object.<anonymous> (/app/g.js:1:82)
    ... 4 lines matching cause stack trace ...
    at node:internal/main/run_main_module:28:49 {
  [cause]: Error: l1
  l2
      at Object.<anonymous> (/app/g.js:1:9) {
    code: 'E1'
  }
}""",
    "node, coloured frames": """\
TypeError: x
\x1b[90m    at Module._compile (node:internal/modules/cjs/loader:1521:14)\x1b[39m
    at f (/app/g.js:1:82)""",
    "node, a rejection's warning": """\
(node:17) UnhandledPromiseRejectionWarning: Error: x
    at f (/app/g.js:1:82)
(Use `node --trace-warnings ...` to show where the warning was created)""",
    "node, an object": """\
{
  a: { b: { c: [Array] } },
  list: [ { x: 1 }, { y: 2 } ]
}""",
    "node, a warning": """\
(node:4583) DeprecationWarning: dep
(Use `node --trace-deprecation ...` to show where the warning was created)""",
    "node, a full heap": """\
<--- Last few GCs --->

[4604:0x7a59d90]       82 ms: Mark-Compact 18.5 (49.5) -> 18.0 (51.0) MB, 3.87 / 0.00 ms


<--- JS stacktrace --->

FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
----- Native stack trace -----

 1: 0xb78db3 node::OOMErrorHandler(char const*, v8::OOMDetails const&) [node]
10: 0x195e476  [node]""",
    "pino-pretty": """\
[03:50:15.756] \x1b[31mERROR\x1b[39m (22935): \x1b[36merror in entry function\x1b[39m
    jobID: "AJ_fakejob0001"
    error: {
      "type": "ConnectError",
      "stack":
          Error: engine: signal failure: client error: 401 Unauthorized - invalid token
              at Room.connect (/app/node_modules/@livekit/rtc-node/dist/room.cjs:624:17)
    }""",
    "java": """\
Exception in thread "main" java.lang.IllegalStateException: outer
line two
\tat M.f(M.java:2)
\tat M.main(M.java:3)
\tSuppressed: java.lang.RuntimeException: sup
\t\tat M.f(M.java:2)
Caused by: java.lang.NumberFormatException: For input string: "x"
\tat java.base/java.lang.Integer.parseInt(Integer.java:668)
\t... 12 more""",
    "java, logged": """\
2026-11-24 04:00:00.123 ERROR 1 --- [main] c.e.Demo : failed
java.lang.RuntimeException: x
\tat c.e.Demo.main(Demo.java:9)""",
    ".net": """\
Unhandled exception. System.InvalidOperationException: outer
 ---> System.FormatException: The input string 'x' was not in a correct format.
   at System.Number.ThrowFormatException[TChar](ReadOnlySpan`1 value)
   --- End of inner exception stack trace ---
   at Program.F() in /app/Program.cs:line 4
--- End of stack trace from previous location ---
   at Program.Main() in /app/Program.cs:line 9""",
    "go": """\
panic: runtime error: invalid memory address or nil pointer dereference [recovered]
\tpanic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48b2c5]

goroutine 18 [running]:
main.(*T).Do(...)
\t/app/main.go:12
created by main.main in goroutine 1
\t/app/main.go:20 +0x25

goroutine 1 [chan receive]:
main.main()
\t/app/main.go:23 +0x3a
exit status 2""",
    "go, a deadlock": """\
fatal error: all goroutines are asleep - deadlock!

goroutine 1 [chan send]:
main.main()
\t/tmp/sandbox/prog.go:5 +0x2d
exit status 2""",
    "go, logged": """\
2026/11/24 04:00:00 http: panic serving 127.0.0.1:4242: boom
goroutine 7 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1947 +0xbe
panic({0x1234, 0x5678})
\t/usr/local/go/src/runtime/panic.go:884 +0x213""",
    "rust": """\
thread '<unnamed>' (4726) panicked at r.rs:1:41:
boom
line two
stack backtrace:
   0: std::panicking::begin_panic::<&str>
             at /rustc/59807616/library/std/src/panicking.rs:761:5
   1: r::main::{{closure}}
             at ./r.rs:1:41
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.""",
    "rust, no backtrace": """\
thread 'main' panicked at src/main.rs:2:5:
called `Result::unwrap()` on an `Err` value: "bad"
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace""",
    "rust, before 1.73": """\
thread 'main' panicked at 'bad', src/main.rs:2:5
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace""",
    "anyhow": """\
Error: cannot connect

Caused by:
    0: no route
    1: timed out""",
    "a warning": """\
/app/agent.py:29: UserWarning: deprecated thing used in job
  warnings.warn("deprecated thing used in job")""",
    "yaml": """\
settings:
  url: ws://localhost
\tretries: 3""",
}
