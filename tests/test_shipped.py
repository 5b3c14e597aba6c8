"""What comes with claw-runner is found in a checkout and in an installed wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from runner.shipped import shipped

ROOT = Path(__file__).parent.parent
LOCATE = (
    "from runner.shipped import shipped; print(*(shipped(kind) for kind in ('images', 'policies', 'tasks')), sep='\\n')"
)


def test_a_checkout_ships_its_own_folders() -> None:
    assert [shipped("images"), shipped("policies"), shipped("tasks")] == [
        ROOT / "images",
        ROOT / "policies",
        ROOT / "tasks",
    ]


def test_a_wheel_carries_everything_a_checkout_has(tmp_path: Path) -> None:
    # Without isolation pip needs no package index.
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT))
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    located = subprocess.run(
        [sys.executable, "-c", LOCATE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for folder in map(Path, located):
        assert folder.is_relative_to(tmp_path)
        assert _contents(folder) == _contents(ROOT / folder.name)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (
        path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", ".pytest_cache"} & {*path.parts}
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != ".gitkeep"}
