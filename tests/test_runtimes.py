"""The files of docker/runtimes are what their runtimes take, and their times and sizes fit together."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from moto import mock_aws

from shipper.config import load, variables
from shipper.config.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.model import Shape  # type: ignore[import-untyped]

RUNTIMES = Path(__file__).resolve().parent.parent / "docker" / "runtimes"
README = (RUNTIMES / "README.md").read_text()
SCHEMA = json.loads(Path(__file__).with_name("kubernetes-deployment.json").read_text())

LIVEKIT_DRAIN = 3600  # seconds, unless the agent's --drain-timeout says otherwise
LIVEKIT_END = 20  # what a worker takes to end its jobs after that: 15.4 s were seen
FARGATE_STOP_MOST = 120
FLY_KILL_MOST = 300
AGENTS_OWN = re.compile(r"LIVEKIT_(URL|API_KEY|API_SECRET)|UV_CACHE_DIR")

# https://fly.io/docs/reference/configuration/, read 2026-11: the keys of each table that is used
FLY_KEYS = {
    "": {"app", "primary_region", "kill_signal", "kill_timeout", "build", "processes", "env", "mounts", "deploy",
         "checks", "vm"},
    "build": {"dockerfile", "image", "ignorefile", "builder", "buildpacks", "build-target", "args"},
    "deploy": {"strategy", "max_unavailable", "release_command", "release_command_timeout", "wait_timeout"},
    "mounts": {"source", "destination", "processes", "initial_size", "auto_extend_size_threshold",
               "auto_extend_size_increment", "auto_extend_size_limit"},
    "checks": {"type", "port", "grace_period", "interval", "timeout", "method", "path", "processes", "headers"},
    "vm": {"size", "memory", "cpus", "cpu_kind", "gpu_kind", "host_dedication_id", "processes"},
}  # fmt: skip


@pytest.fixture
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((RUNTIMES / "kubernetes.yaml").read_text())
    return loaded


@pytest.fixture
def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def task() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RUNTIMES / "ecs-task-definition.json").read_text())
    return loaded


@pytest.fixture
def fly() -> dict[str, Any]:
    return tomllib.loads((RUNTIMES / "fly.toml").read_text())


def environment_of(name: str) -> dict[str, str]:
    """The variables that a runtime's file sets; a secret's value is made up."""
    secret = "pub0123456789abcdef0123456789abcdef"
    if name == "kubernetes":
        loaded = yaml.safe_load((RUNTIMES / "kubernetes.yaml").read_text())
        (container,) = loaded["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: entry.get("value", secret) for entry in container["env"]}
    if name == "ecs":
        (container,) = json.loads((RUNTIMES / "ecs-task-definition.json").read_text())["containerDefinitions"]
        plain = {entry["name"]: entry["value"] for entry in container["environment"]}
        return plain | {entry["name"]: secret for entry in container["secrets"]}
    return dict(tomllib.loads((RUNTIMES / "fly.toml").read_text())["env"])


def agents_drain(command: str) -> int:
    found = re.search(r"--drain-timeout (\d+)", command)
    return int(found[1]) if found else LIVEKIT_DRAIN


@pytest.mark.parametrize("name", ["kubernetes", "ecs", "fly"])
def test_every_variable_is_one_that_acts_and_its_value_is_taken(name: str) -> None:
    environment = environment_of(name)
    assert [key for key in environment if not (key in variables.ACTING or AGENTS_OWN.fullmatch(key))] == []
    settings = load(environment)
    assert settings.problems == ()
    assert settings.directories == ("/var/lib/shipper",)
    assert settings.sinks == (() if name == "fly" else ("datadog",))  # Fly's secrets are set by a command
    assert settings.drain_timeout > parse_duration(variables.ACTING["SHIPPER_DRAIN_TIMEOUT"].default)


# -- Kubernetes ------------------------------------------------------------------------------------------------------


def test_the_manifest_is_what_kubernetes_takes(manifest: dict[str, Any], pod: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(manifest)] == []
    pod["terminationGracePeriod"] = 1
    pod["containers"][0]["ports"][0]["containerPort"] = "health"
    assert len(list(validator.iter_errors(manifest))) == 2
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_pods_grace_period_covers_the_agents_drain_and_ours(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    needed = agents_drain(" ".join(container.get("args", []))) + LIVEKIT_END
    assert pod["terminationGracePeriodSeconds"] >= needed + load(environment_of("kubernetes")).drain_timeout + 1
    assert "lifecycle" not in container


def test_the_pods_journal_has_room_and_survives_the_container(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    limit = parse_size(volumes[mounts["/var/lib/shipper"]]["sizeLimit"] + "B")
    bound = load(environment_of("kubernetes")).journal_max_bytes
    assert bound is not None
    assert limit >= 2 * bound
    assert all("medium" not in volume for volume in volumes.values())
    assert set(mounts.values()) == set(volumes)
    in_all = sum(parse_size(volume["sizeLimit"] + "B") for volume in volumes.values())
    assert parse_size(container["resources"]["limits"]["ephemeral-storage"] + "B") > in_all
    assert parse_size(container["resources"]["requests"]["memory"] + "B") == (8 << 30) + (128 << 20)


def test_the_pod_runs_as_livekits_user_on_a_read_only_root(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (10001, 10001)
    assert {probe for probe in container if probe.endswith("Probe")} == {"startupProbe", "readinessProbe"}
    assert [port["containerPort"] for port in container["ports"]] == [8081]
    assert [entry["name"] for entry in container["env"] if re.search(r"TOKEN|KEY|SECRET", entry["name"])] == [
        entry["name"] for entry in container["env"] if "valueFrom" in entry and entry["name"] != "LIVEKIT_URL"
    ]


# -- ECS -------------------------------------------------------------------------------------------------------------


def enumerations(value: Any, shape: Shape) -> Iterator[tuple[str, list[str]]]:
    """What stands where AWS has a list of names, and the list: botocore does not look at these."""
    if shape.type_name == "structure":
        for key, item in value.items():
            yield from enumerations(item, shape.members[key])
    elif shape.type_name == "list":
        for item in value:
            yield from enumerations(item, shape.member)
    elif getattr(shape, "enum", None):
        yield value, shape.enum


def test_the_task_definition_is_what_ecs_takes(task: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    found = list(enumerations(task, model.input_shape))
    assert len(found) >= 5
    assert [value for value, allowed in found if value not in allowed] == []
    with mock_aws():
        client = boto3.client(
            "ecs", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
        )
        registered = client.register_task_definition(**task)["taskDefinition"]
        assert registered["family"] == "agent"
        task["containerDefinitions"][0]["stopTimeouts"] = 1
        with pytest.raises(botocore.exceptions.ParamValidationError):
            client.register_task_definition(**task)


def test_the_tasks_stop_timeout_is_within_fargates_and_covers_both_drains(task: dict[str, Any]) -> None:
    (container,) = task["containerDefinitions"]
    assert container["stopTimeout"] <= FARGATE_STOP_MOST
    needed = agents_drain(" ".join(container["command"])) + LIVEKIT_END
    assert container["stopTimeout"] >= needed + load(environment_of("ecs")).drain_timeout + 1
    assert f"at most {FARGATE_STOP_MOST} s on Fargate" in README
    assert 60 <= container["restartPolicy"]["restartAttemptPeriod"] <= 1800


def test_the_tasks_mounts_name_its_volumes_and_its_secrets_are_no_values(task: dict[str, Any]) -> None:
    (container,) = task["containerDefinitions"]
    assert {point["sourceVolume"] for point in container["mountPoints"]} == {v["name"] for v in task["volumes"]}
    assert all("host" not in volume for volume in task["volumes"])
    assert not [e["name"] for e in container["environment"] if re.search(r"TOKEN|_KEY|SECRET", e["name"])]
    assert all(secret["valueFrom"].startswith("arn:aws:secretsmanager:") for secret in container["secrets"])


# -- Fly -------------------------------------------------------------------------------------------------------------


def test_the_fly_file_has_keys_that_fly_documents(fly: dict[str, Any]) -> None:
    assert set(fly) <= FLY_KEYS[""]
    for name, allowed in FLY_KEYS.items():
        tables: Any = fly.get(name, []) if name else []
        if name == "checks":
            tables = list(fly["checks"].values())
        for table in tables if isinstance(tables, list) else [tables]:
            assert set(table) <= allowed, name
    assert fly["checks"]["agent"].keys() >= {"type", "port"}
    assert fly["deploy"]["strategy"] in ("rolling", "immediate", "canary")  # not bluegreen, which takes no volume


def test_flys_kill_timeout_is_within_its_most_and_covers_both_drains(fly: dict[str, Any]) -> None:
    assert fly["kill_signal"] == "SIGTERM"
    assert fly["kill_timeout"] <= FLY_KILL_MOST
    needed = agents_drain(fly["processes"]["app"]) + LIVEKIT_END
    assert fly["kill_timeout"] >= needed + load(environment_of("fly")).drain_timeout + 1
    assert f"at most {FLY_KILL_MOST} s" in README
    assert not re.search(r"TOKEN|_KEY|SECRET", " ".join(fly["env"]))


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_names_each_file_and_shows_where_each_limit_stands() -> None:
    files = {path.name for path in RUNTIMES.iterdir()} - {"README.md"}
    assert set(re.findall(r"\]\(([\w.-]+)\)", README)) == files
    for figure in ("30 by default", "at most 120 s on Fargate", "at most 300 s", "2,880 minutes", "60 to 1,800 s",
                   "20 GiB", "kills after 10 s", "From Kubernetes 1.28 on", "a grace period of 0"):  # fmt: skip
        lines = [line for line in README.splitlines() if figure in line]
        assert lines, figure
        assert all("](https://" in line for line in lines), figure
    assert "read in November 2026" in README


def test_the_docker_command_waits_as_long_as_the_pod(pod: dict[str, Any]) -> None:
    found = re.search(r"--stop-timeout (\d+)", README)
    assert found is not None
    assert int(found[1]) == pod["terminationGracePeriodSeconds"]
