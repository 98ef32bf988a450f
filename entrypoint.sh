#!/bin/sh
# entrypoint.sh CMD [ARG...]: runs CMD under `shipper run`, or bare where shipper cannot run.
#
# ENTRYPOINT ["/entrypoint.sh"] gives what `shipper run` gives, one level lower: an image without a usable Python or
# package, or with a broken one, still starts its agent. Always `exec`, so no shell stays between Docker and the agent.
# Each candidate is tried by running it once: after an exec that goes wrong there is no way back. That costs one start
# of the interpreter (10 ms here) and reads nothing of the agent's stdin.

if [ $# -eq 0 ]; then
    echo "shipper: entrypoint.sh needs the agent's command; an ENTRYPOINT in a child image resets the CMD that it" \
        "inherited, so repeat CMD [\"python\", \"agent.py\", \"start\"] there." >&2
    exit 64
fi

works() { # runs it once; is what it prints ours? Another program may be called shipper as well
    case $("$@" --version </dev/null) in "agent-shipper "*) return 0 ;; esac
    return 1
} 2>/dev/null

# No variable is set anywhere: the agent's environment may hold one of the same name.
if works shipper; then
    exec shipper run -- "$@"
fi
if works /opt/shipper/bin/shipper; then
    exec /opt/shipper/bin/shipper run -- "$@"
fi
# -P, which only Python 3.11 and later know: the working directory is the agent's, its modules are not ours.
if works python3 -P -m shipper; then
    exec python3 -P -m shipper run -- "$@"
fi
if works python -P -m shipper; then
    exec python -P -m shipper run -- "$@"
fi

echo "shipper: found neither a working \`shipper\` nor a Python 3.11 or later that has the package agent-shipper," \
    "so the agent runs without it and nothing is forwarded." >&2
exec "$@"
