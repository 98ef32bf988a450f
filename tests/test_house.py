"""What the house says of itself is true: the map, the README, the help, the versions, the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import shipper
from shipper.config import variables

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def project_files() -> list[Path]:
    """Every file of the project: tracked, or new and not ignored; where there is no git, all but caches."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        hidden = re.compile(r"/(\.(?!ci/|gitignore|editorconfig)|__pycache__/|build/|dist/|htmlcov/)")
        files = [path for path in ROOT.rglob("*") if not hidden.search(f"/{path.relative_to(ROOT)}")]
    return [path for path in files if path.is_file()]


def test_the_map_names_every_room_that_exists_and_no_other() -> None:
    assert shipper.__doc__
    there = {
        path.name + "/" if path.is_dir() else path.name
        for path in (ROOT / "shipper").iterdir()
        if (path.is_dir() and any(path.glob("*.py"))) or (path.suffix == ".py" and path.name != "__init__.py")
    }
    named = set(re.findall(r"^    (\w+(?:/|\.py)) ", shipper.__doc__, re.MULTILINE))
    assert named == there


def test_the_map_and_the_contract_show_the_same_floors() -> None:
    assert shipper.__doc__
    contract = next(c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    drawn = shipper.__doc__.partition("(import-linter checks it):")[2]
    floors = [re.split(r" {2,}", line.strip())[0] for line in drawn.strip().splitlines()[: len(contract["layers"])]]
    assert floors == contract["layers"]


def test_the_readme_has_every_variable_that_acts_with_its_default() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    missing = [name for name in variables.ACTING if not any(f"`{name}`" in row for row in rows)]
    assert missing == []
    wrong = [
        name
        for name, variable in variables.ACTING.items()
        if variable.default and not any(f"`{name}`" in row and f"`{variable.default}`" in row for row in rows)
    ]
    assert wrong == []


def test_the_readme_has_no_row_for_a_variable_that_does_not_act_yet() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert [row for row in rows if any(row.startswith(f"| `{name}`") for name in variables.LATER)] == []


def test_help_names_every_variable_that_acts() -> None:
    launch = f"import sys; sys.path.append({str(ROOT)!r}); from shipper.__main__ import main; sys.exit(main())"
    text = subprocess.run(
        [sys.executable, "-P", "-c", launch, "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert [name for name in variables.ACTING if f"  {name} " not in text] == []


def test_no_file_names_a_place_that_only_one_machine_has() -> None:
    # In pieces, or this file would be the first to be found.
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
    hosts.append(".".join(("deb", "debian", "org")))
    places = ["/".join(("", "work", name)) for name in ("main", "shared", ".library")]
    places += ["/".join(("", "tmp", name)) for name in ("proto", "design")]
    forbidden = re.compile("|".join(map(re.escape, hosts + places)).encode())
    found = {
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in project_files()
        for match in forbidden.finditer(path.read_bytes())
    }
    assert found == set()


def test_the_version_stands_in_one_place_and_heads_the_changelog() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "shipper/__init__.py"
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == shipper.__version__


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_every_dependency_is_locked_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==\S+(?: ;[^\\\n]*)? \\\n    --hash=(sha256):", text, re.MULTILINE))
    assert set(locked) == set(re.findall(r"^([a-zA-Z0-9._-]+)==", text, re.MULTILINE))
    wanted = PYPROJECT["project"]["dependencies"]
    if lock == "requirements-dev.txt":
        wanted = wanted + PYPROJECT["dependency-groups"]["dev"]
    assert {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted} <= set(locked)


def test_both_locks_agree() -> None:
    pin = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
    runtime = set(pin.findall((ROOT / "requirements.txt").read_text()))
    assert runtime <= set(pin.findall((ROOT / "requirements-dev.txt").read_text()))


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("agent_shipper-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {str(path.relative_to(ROOT)) for path in project_files() if path.is_relative_to(ROOT / "shipper")}
