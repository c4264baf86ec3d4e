"""What is installed is what was pinned; what the code must not do, and that the rules would notice."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_setup_environment import load

PROJECT = Path(__file__).resolve().parents[2]
CODE = sorted(
    path
    for folder in ("benchmarks", "calibration", "examples", "fuzz", "quantize", "scripts")
    for path in (PROJECT / folder).rglob("*.py")
)
RUNNING, WORKING = PROJECT / "requirements.lock", PROJECT / "requirements-dev.lock"


def pins(path: Path) -> dict[str, tuple[str, ...]]:
    """`name==version ; marker` → its hashes."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in re.sub(r"\\\n", " ", path.read_text(encoding="utf-8")).splitlines():
        if entry.strip() and not entry.lstrip().startswith("#"):
            requirement, *hashes = entry.split("--hash=")
            found[" ".join(requirement.split())] = tuple(each.strip() for each in hashes)
    return found


@pytest.mark.parametrize("lock", [RUNNING, WORKING], ids=lambda path: path.name)
def test_everything_is_pinned_with_hashes(lock: Path) -> None:
    for requirement, hashes in pins(lock).items():
        assert re.match(r"[a-z0-9-]+==[^ ]+( ;|$)", requirement), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


def test_the_locks_agree() -> None:
    running, working = pins(RUNNING), pins(WORKING)
    versions = {requirement.partition(" ;")[0] for requirement in working}
    assert versions == {each.partition(" ;")[0] for each in pins(PROJECT / "constraints.txt")}
    for requirement, hashes in running.items():
        assert requirement.partition(" ;")[0] in versions
        assert working.get(requirement, hashes) == hashes


@pytest.fixture
def setup(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up of a checkout whose registry is a folder, installing into another folder."""
    module = load(checkout / "scripts/setup_environment.py")
    (checkout / ".venv").mkdir()
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry(checkout)))
    monkeypatch.setenv("PIP_TARGET", str(checkout / "installed"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return module


def registry(checkout: Path) -> Path:
    """Beside the checkout, whose path has a space in it: pip takes those for several folders."""
    return checkout.parent / "registry"


def publish(checkout: Path, content: str) -> str:
    """Puts a package into the folder; returns the hash of its file."""
    path = registry(checkout) / "harmless-1.0-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    about = "harmless-1.0.dist-info"
    files = {
        "harmless.py": content,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "".join(f"{name},,\n" for name in ("harmless.py", f"{about}/RECORD")),
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock(checkout: Path, text: str) -> None:
    (checkout / "requirements.lock").write_text(text, encoding="utf-8")


def test_the_package_that_was_pinned_is_installed(setup: ModuleType, checkout: Path) -> None:
    lock(checkout, f"harmless==1.0 --hash=sha256:{publish(checkout, 'x = 1')}\n")
    setup.install_pins("run")
    assert (checkout / "installed/harmless.py").read_text(encoding="utf-8") == "x = 1"


@pytest.mark.robustness(
    "Supply chain",
    "the registry serves another file under the name and version that is pinned",
    "installs nothing, and says that the hash differs",
)
def test_another_file_is_refused(setup: ModuleType, checkout: Path) -> None:
    lock(checkout, f"harmless==1.0 --hash=sha256:{publish(checkout, 'x = 1')}\n")
    publish(checkout, "import os")
    with pytest.raises(setup.SetupError, match="not the one that was pinned"):
        setup.install_pins("run")
    assert not (checkout / "installed").exists()


@pytest.mark.robustness(
    "Supply chain", "the lock file names a package without a hash", "installs nothing, and says so"
)
def test_a_pin_without_a_hash_is_refused(setup: ModuleType, checkout: Path) -> None:
    publish(checkout, "x = 1")
    lock(checkout, "harmless==1.0\n")
    with pytest.raises(setup.SetupError, match="installing failed"):
        setup.install_pins("run")
    assert not (checkout / "installed").exists()


@pytest.mark.robustness(
    "Supply chain",
    "the registry has only sources, whose set-up would run code",
    "installs nothing, and runs nothing of it",
)
def test_sources_are_refused(setup: ModuleType, checkout: Path, tmp_path: Path) -> None:
    sources = tmp_path / "harmless-1.0"
    sources.mkdir()
    ran = tmp_path / "ran"
    (sources / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n", encoding="utf-8")
    registry(checkout).mkdir()
    archive = Path(
        shutil.make_archive(str(registry(checkout) / "harmless-1.0"), "gztar", tmp_path, "harmless-1.0")
    )
    lock(checkout, f"harmless==1.0 --hash=sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}\n")
    with pytest.raises(setup.SetupError, match="harmless"):
        setup.install_pins("run")
    assert not ran.exists()


# Each would be a way to run what somebody else wrote, and the rule of ruff that forbids it.
FORBIDDEN = {
    "unpickling": ("import pickle\npickle.loads(b'')", "S301"),
    "marshal": ("import marshal\nmarshal.loads(b'')", "S302"),
    "eval": ("eval('1')", "S307"),
    "exec": ("exec('1')", "S102"),
    "a shell by subprocess": ("import subprocess\nsubprocess.run('ls ' + 'x', shell=True)", "S602"),
    "a shell by os": ("import os\nos.system('ls ' + 'x')", "S605"),
    "YAML with tags": ("import yaml\nyaml.load('x', Loader=yaml.Loader)", "S506"),
    "extracting a whole archive": ("import tarfile\ntarfile.open('x').extractall('y')", "S202"),
    "certificates unchecked": ("import ssl\nssl._create_unverified_context()", "S323"),
    "predictable temporary names": ("import tempfile\ntempfile.mktemp()", "S306"),
}


@pytest.mark.parametrize("module", ["quantize/x.py", "calibration/x.py", "scripts/x.py", "fuzz/x.py"])
@pytest.mark.robustness(
    "Supply chain",
    "ten ways to run what somebody else wrote are put into the code (pickle, eval, a shell, YAML tags …)",
    "fails the checks that every change has to pass",
    times=len(FORBIDDEN),
)
def test_the_rules_notice_what_is_forbidden(module: str) -> None:
    for what, (code, rule) in FORBIDDEN.items():
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--stdin-filename", module, "--output-format=json", "-"],
            input=code,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert rule in {found["code"] for found in json.loads(done.stdout)}, what


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Dotted name of what is called, as it is spelled in the file, and the call."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_what_the_rules_do_not_cover_is_not_done_either() -> None:
    found = []
    for path in CODE:
        for name, call in calls(path):
            last = name.rpartition(".")[2]
            keywords = {keyword.arg for keyword in call.keywords}
            if (
                last in {"extractall", "unpack_archive", "read_pickle", "startfile", "popen"}
                or (last == "extract" and "tar" in name)
                or "allow_pickle" in keywords
                or (last == "load" and name.split(".")[0] in {"torch", "joblib", "dill", "cloudpickle"})
            ):
                found.append(f"{path.relative_to(PROJECT)}:{call.lineno}: {name}")
    assert found == []


def test_suppressed_rules_are_few_and_known() -> None:
    """A `noqa` of one of bandit's rules would take back what the test above shows."""
    suppressed = [
        f"{path.relative_to(PROJECT)}: {match}"
        for path in CODE
        for match in re.findall(r"noqa:[^#\n]*\bS\d{3}", path.read_text(encoding="utf-8"))
    ]
    assert suppressed == []
