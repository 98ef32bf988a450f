"""Limits and use, read from the files of both cgroup versions as kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipper.config.container import Container


def files(root: Path, contents: dict[str, str]) -> str:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "membership"


IN_A_CONTAINER = {
    "v2, a namespace of its own": (
        "0::/\n",
        {
            "cpu.max": "150000 100000\n",
            "memory.max": "67108864\n",
            "memory.current": "41943040\n",
            "memory.peak": "50331648\n",
            "memory.stat": "anon 20971520\nshmem 1048576\nkernel 3145728\nslab_reclaimable 1048576\n"
            "inactive_file 1048576\nactive_file 4096\n",
            "memory.events": "low 0\nhigh 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 0\n",
        },
    ),
    "v1, by a name that only the host knows": (
        "9:memory:/docker/4f0c\n4:cpu,cpuacct:/docker/4f0c\n0::/system.slice\n",
        {
            "cpu/cpu.cfs_quota_us": "150000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "67108864\n",
            "memory/memory.usage_in_bytes": "41943040\n",
            "memory/memory.max_usage_in_bytes": "50331648\n",
            "memory/memory.kmem.usage_in_bytes": "2097152\n",
            "memory/memory.stat": "rss 5\ntotal_rss 20971520\ntotal_shmem 1048576\ntotal_inactive_file 1048576\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        },
    ),
}


@pytest.mark.parametrize(("names", "contents"), IN_A_CONTAINER.values(), ids=IN_A_CONTAINER)
def test_both_versions_say_the_same(tmp_path: Path, membership: Path, names: str, contents: dict[str, str]) -> None:
    membership.write_text(names)
    container = Container(files(tmp_path / "cgroup", contents), str(membership))
    assert container.cpu_quota() == 1.5
    assert container.memory_limit_bytes() == 67108864
    assert container.memory_use_bytes() == 41943040 - 1048576
    assert container.memory_held_bytes() == (20 + 1 + 2) << 20
    assert container.memory_peak_bytes() == 50331648
    assert container.oom_kills() == 3


@pytest.mark.parametrize(
    ("names", "contents"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}),
        ("0::/\n", {}),
        ("", {}),
        (
            "not what it should be\n\n::\n",
            {"cpu.max": "nonsense\n", "memory.max": "-7\n", "memory.events": "oom_kill\n"},
        ),
        (
            "4:cpu:/\n9:memory:/\n",
            {
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n",  # before Linux 4.13
            },
        ),
    ],
)
def test_no_limit_and_no_files_are_none(tmp_path: Path, membership: Path, names: str, contents: dict[str, str]) -> None:
    membership.write_text(names)
    container = Container(files(tmp_path / "cgroup", contents), str(membership))
    assert container.cpu_quota() is None
    assert container.memory_limit_bytes() is None
    assert container.oom_kills() is None


def test_the_least_limit_of_the_cgroups_above_acts(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/kubepods/pod7/c1\n")
    mount = files(
        tmp_path / "cgroup",
        {
            "kubepods/pod7/c1/cpu.max": "200000 100000\n",
            "kubepods/pod7/cpu.max": "50000 100000\n",
            "kubepods/cpu.max": "max 100000\n",
            "kubepods/pod7/c1/memory.max": "max\n",
            "kubepods/pod7/memory.max": "1000000\n",
            "kubepods/memory.max": "5000000\n",
            "kubepods/pod7/c1/memory.current": "700\n",
            "kubepods/pod7/memory.current": "900\n",
        },
    )
    container = Container(mount, str(membership))
    assert container.cpu_quota() == 0.5
    assert container.memory_limit_bytes() == 1000000
    assert container.memory_use_bytes() == 700


def test_a_missing_directory_leaves_no_trace(tmp_path: Path) -> None:
    container = Container(str(tmp_path / "nowhere"), str(tmp_path / "nothing"))
    assert container.memory_use_bytes() is None
    assert container.memory_held_bytes() is None
    assert container.memory_peak_bytes() is None
    assert container.oom_kills() is None


def test_what_this_machine_says_can_be_read() -> None:
    container = Container()
    limit = container.memory_limit_bytes()
    assert limit is None or limit > 0
    quota = container.cpu_quota()
    assert quota is None or quota > 0
