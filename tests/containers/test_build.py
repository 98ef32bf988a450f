"""Build logs in real images: written by a Dockerfile's RUN, carried between stages, read by the image's user."""

from __future__ import annotations

import re

import pytest

from tests.containers import engine
from tests.containers.engine import Running, run

STAGES = f"""\
FROM {engine.BASE} AS build
COPY --from={engine.PACKAGE} / /
RUN umask 077 && shipper build -- sh -c 'echo building; echo aside >&2'
RUN ["shipper", "build", "--", "sh", "-c", "echo second; exit 0"]
RUN shipper build -- sh -c 'echo third; exit 7' || true
FROM {engine.BASE}
COPY --from={engine.PACKAGE} / /
COPY --from=build /usr/share/shipper/build /usr/share/shipper/build
USER 10001
ENTRYPOINT ["shipper", "run", "--"]
CMD ["sh", "-c", "echo agent; exec sleep 600"]
"""
SHOWN = [
    "# step 1 of 3: WHEN, status 0: sh -c 'echo building; echo aside >&2'",
    "building",
    "aside",
    "# step 2 of 3: WHEN, status 0: sh -c 'echo second; exit 0'",
    "second",
    "# step 3 of 3: WHEN, status 7: sh -c 'echo third; exit 7'",
    "third",
]
LOGS = ("logs", "--log-type=build")


def lines(said: bytes) -> list[str]:
    """Without times."""
    return re.sub(r": 20\S+ \S+, \d+\.\d s", ": WHEN", said.decode()).splitlines()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("buildkit", [False, True], ids=["the engine's builder", "BuildKit"])
def test_a_log_goes_from_stage_to_stage_and_is_read_by_the_images_user(buildkit: bool) -> None:
    if buildkit and not engine.has_buildkit():
        pytest.skip("this engine has no BuildKit")
    image = engine.build(engine.new_name("build"), {"Dockerfile": STAGES}, buildkit=buildkit)
    read_only = ("--read-only", "--cap-drop", "ALL", "--network", "none")
    done = run(image, *LOGS, options=("--entrypoint", "shipper", *read_only))
    assert (done.status, done.stderr) == (0, b"")
    # two pipes to the engine: which of them was written to first is not known
    assert sorted(lines(done.stdout)) == sorted(SHOWN)
    assert [line for line in lines(done.stdout) if line != "aside"] == [line for line in SHOWN if line != "aside"]
    with Running(image, env={"SHIPPER_SINKS": "none"}) as container:
        container.wait_for("agent")
        beside = container.exec("shipper", *LOGS)
        assert beside.stdout == done.stdout
        assert b"building" not in container.exec("shipper", "logs").stdout
        assert container.logs().stdout == b"agent\n"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("setting", ["", "ENV SHIPPER_BUILD_DIR=/home/builder"])
def test_a_build_as_another_user_than_root_keeps_it_where_it_can(setting: str) -> None:
    text = f"FROM {engine.BASE}\nCOPY --from={engine.PACKAGE} / /\n"
    text += f"RUN mkdir -m 777 /home/builder\n{setting}\nUSER 10001\nRUN shipper build -- sh -c 'id -u; exit 0'\n"
    image = engine.build(engine.new_name("build"), {"Dockerfile": text})
    done = run(image, "shipper", *LOGS)
    assert (done.status, lines(done.stdout)[1:]) == (0, ["10001"])
    other = run(image, "shipper", *LOGS, options=("--user", "10002"))
    if setting:
        assert other.stdout == done.stdout
    else:  # beside the journal, which is its owner's alone
        assert (other.status, other.stdout) == (1, b"")


@pytest.mark.usefixtures("package")
def test_a_step_that_fails_fails_the_build() -> None:
    text = f"FROM {engine.BASE}\nCOPY --from={engine.PACKAGE} / /\nRUN shipper build -- sh -c 'echo so; exit 3'\n"
    with pytest.raises(engine.DockerError, match=r"(?s)so.*(code: 3|exit code 3)"):
        engine.build(engine.new_name("build"), {"Dockerfile": text})
