"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Two workers with two threads each wait for one another at every barrier: one thread each is
# several times faster. It must be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the golden outputs and the real images, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"SKIPPED LOUDLY: {SHARED} is absent, so nothing is checked on real data")
    return SHARED


@pytest.fixture(scope="session")
def isic(shared: Path) -> Path:
    """ISIC 2017 at 256 x 256, with the paper's split."""
    return shared / "data" / "isic2017"


@pytest.fixture(scope="session")
def run_command() -> Run:
    """Run an installed entry point: ``run_command("egeunet-data", "check", folder)``."""

    def run(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / name
        command = [str(program), *map(str, arguments)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=env, **options
        )  # type: ignore[call-overload, no-any-return]

    return run
