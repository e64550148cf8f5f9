"""``tools/setup.sh`` finds a suitable Python and names the Debian packages that are missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

COMMANDS = ("awk", "date", "dirname")


def fake_python(*, version: bool = True, venv: bool = True, libgomp: bool = True) -> str:
    """An interpreter that answers the script's three questions: by its exit code, as the real one does."""
    answers = {"version_info": version, "ensurepip": venv, "libgomp": libgomp}
    cases = "".join(f"*{word}*) exit {0 if yes else 1} ;;\n" for word, yes in answers.items())
    return f'#!/bin/sh\ncase "$2" in\n{cases}esac\nexit 9\n'


def missing(folder: Path, pythons: dict[str, str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """What ``setup.sh --missing`` prints when only these interpreters are on the path."""
    for command in COMMANDS:
        (folder / command).symlink_to(Path(str(shutil.which(command))).resolve())
    for name, text in pythons.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return subprocess.run(
        [os.path.realpath("/bin/sh"), "tools/setup.sh", "--missing"],
        cwd=ROOT, env={"PATH": str(folder), **environment}, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pythons", "packages"),
    [
        pytest.param({"python3": fake_python()}, "", id="all there"),
        pytest.param({}, "python3\npython3-venv\n", id="no Python"),
        pytest.param({"python3": fake_python(version=False)}, "python3\npython3-venv\n", id="an old Python"),
        pytest.param({"python3": fake_python(venv=False)}, "python3-venv\n", id="no venv module"),
        pytest.param({"python3": fake_python(libgomp=False)}, "libgomp1\n", id="no libgomp"),
        pytest.param(
            {"python3.12": fake_python(venv=False, libgomp=False)}, "python3-venv\nlibgomp1\n", id="both missing"
        ),
        pytest.param(
            {"python3.13": fake_python(venv=False), "python3.11": fake_python()}, "", id="another one has venv"
        ),
    ],
)  # fmt: skip
def test_missing_packages_are_named(pythons: dict[str, str], packages: str, tmp_path: Path) -> None:
    done = missing(tmp_path, pythons)
    assert (done.stdout, done.stderr, done.returncode) == (packages, "", 0)


def test_a_named_interpreter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    done = missing(tmp_path, {"python3": fake_python(), "old": fake_python(version=False)}, PYTHON="old")
    assert done.returncode == 1
    assert done.stderr == "PYTHON=old is not a Python of version 3.11, 3.12 or 3.13.\n"
