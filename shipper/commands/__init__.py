"""What a person types beside `shipper run`: one module a command, each with ``main(argv) -> exit status``.

Reads the journal and the environment; changes nothing of a run. `build` alone writes: a log of its own (buildlog).
"""
