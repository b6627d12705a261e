"""Peers of the benchmark: what is missing, what is kept, what a runner makes of a session."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egeunet.benchmarks import runtimes
from egeunet.benchmarks.peers import converted
from egeunet.benchmarks.peers.converted import RECORD, ConvertedPeer, Package
from egeunet.benchmarks.peers.session_runner import SessionRunner
from egeunet.benchmarks.runtimes import Peer, known_runtimes
from egeunet.model import ModelContract
from egeunet.model.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PEERS = [each for each in known_runtimes() if isinstance(each, ConvertedPeer)]
CONTRACT = ModelContract(32, 32)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


class Mean:
    """A session whose probability is the mean over the channels, (1, 3, H, W) -> (1, 1, H, W)."""

    def __init__(self, change: Callable[[Any], Any] = lambda output: output) -> None:
        self._change = change

    def bind(self, image_nchw: Any) -> Callable[[], object]:
        return lambda: image_nchw.mean(axis=1, keepdims=True)

    def read(self, output: Any) -> Any:
        return self._change(output)


class Fake(ConvertedPeer):
    """A peer without a tool; it is not registered."""

    name = "fake"
    suffix = ".fake"
    packages = (Package("numpy", "numpy"),)

    def convert(self, source: Path, out: Path) -> ModelContract:
        raise AssertionError("never in this process")

    def session(self, path: Path, threads: int) -> Mean:
        if path.read_bytes() == b"refused":
            raise ValueError("line one\nline two")
        return Mean()


class Tool:
    """Stands for the process that converts: writes a file, counts its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path]] = []
        self.content = b"converted"
        self.failure = ""

    def __call__(self, peer: str, source: Path, out: Path, log: Path) -> dict[str, Any]:
        self.calls.append((peer, source))
        log.write_text("noise\n")
        out.write_bytes(self.content)
        if self.failure:
            raise InputError(self.failure)
        return CONTRACT.to_dict()


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    double = Tool()
    monkeypatch.setattr(converted, "convert_in_a_process", double)
    return double


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    return path


def test_the_peers_of_the_contract_are_registered() -> None:
    wanted = {"litert-torch", "torch-onnx", "ncnn", "mnn", "openvino", "executorch"}
    assert wanted <= {peer.name for peer in PEERS}
    assert all(isinstance(peer, Peer) and peer.peer for peer in PEERS)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_missing_package_gives_the_pip_command(
    peer: ConvertedPeer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = peer.packages[-1].module
    monkeypatch.setattr(runtimes, "find_spec", lambda name: name if name != absent else None)
    assert peer.problem() == f"{absent} is not installed; pip install 'egeunet-mobile[peers]'"
    assert peer.cached(tmp_path / "w.safetensors", tmp_path) is None
    for use in (peer.prepare, peer.open):
        with pytest.raises(InputError, match="is not installed; pip install"):
            use(tmp_path / "w.safetensors", 1)  # type: ignore[operator, arg-type]
    assert not list(tmp_path.iterdir())


def test_every_package_of_the_peers_is_in_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["peers"]
    pinned = {line.partition("==")[0] for line in extra if "==" in line}
    assert {package.distribution for peer in PEERS for package in peer.packages} <= pinned


def test_conversion_is_made_once_for_its_weights(
    tool: Tool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    peer, folder = Fake(), Path("peers")
    assert peer.cached(weights, folder) is None
    path = peer.prepare(weights, folder)
    assert path.read_bytes() == b"converted"
    assert path.name == "fake_float32.fake" and not path.is_absolute()
    assert peer.cached(weights, folder) == path == peer.prepare(weights, folder)
    assert tool.calls == [("fake", weights)]

    renamed = weights.with_name("again.safetensors")
    renamed.write_bytes(weights.read_bytes())
    assert peer.prepare(renamed, folder) == path  # equal bytes, not equal names
    assert len(tool.calls) == 1

    weights.write_bytes(b"two")
    other = peer.prepare(weights, folder)
    assert other != path and path.exists()
    assert len(tool.calls) == 2


def test_damaged_or_outdated_conversion_is_made_anew(
    tool: Tool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, folder = Fake(), tmp_path
    path = peer.prepare(weights, folder)
    path.write_bytes(b"flipped")
    assert peer.cached(weights, folder) is None
    assert peer.prepare(weights, folder).read_bytes() == b"converted"

    record = json.loads((path.parent / RECORD).read_text())
    record["tools"]["numpy"] = "1.0"
    (path.parent / RECORD).write_text(json.dumps(record))
    assert peer.cached(weights, folder) is None
    peer.prepare(weights, folder)

    (path.parent / RECORD).write_text("{")
    assert peer.cached(weights, folder) is None
    peer.prepare(weights, folder)

    monkeypatch.setattr(converted, "_RECIPES", 1_000_000)
    assert peer.cached(weights, folder) is None
    assert len(tool.calls) == 4


def test_failed_conversion_leaves_only_its_log(tool: Tool, weights: Path, tmp_path: Path) -> None:
    peer, folder = Fake(), tmp_path / "peers"
    tool.failure = "it did not work"
    with pytest.raises(InputError, match="it did not work"):
        peer.prepare(weights, folder)
    assert [path.suffix for path in folder.iterdir()] == [".log"]
    tool.failure = ""
    assert peer.prepare(weights, folder).exists()  # a failure is not kept


def test_peer_may_start_from_another_s_file(tool: Tool, weights: Path, tmp_path: Path) -> None:
    class Second(Fake):
        name = "second"
        precision = "int8"
        starts_from = Fake

    path = Second().prepare(weights, tmp_path)
    assert path.name == "second_int8.fake"
    first = Fake().cached(weights, tmp_path)
    assert tool.calls == [("fake", weights), ("second", first)]


def test_peer_runs_only_what_it_made(tool: Tool, weights: Path, tmp_path: Path) -> None:
    class Second(Fake):
        name = "second"

    path = Fake().prepare(weights, tmp_path)
    assert Fake().accepts(path) and not Second().accepts(path)
    stranger = tmp_path / "fake_float32.fake"
    stranger.write_bytes(b"converted")
    assert not Fake().accepts(stranger)
    with pytest.raises(InputError, match=r"no peer\.json beside it"):
        Fake().open(stranger, 1)


def test_runner_gives_what_the_session_gives(tool: Tool, weights: Path, tmp_path: Path) -> None:
    path = Fake().prepare(weights, tmp_path)
    runner = Fake().open(path, 1)
    want = (PIXELS / np.float32(255)).mean(axis=3, keepdims=True)
    np.testing.assert_allclose(runner(PIXELS), want, atol=1e-6)
    assert (runner.name, runner.contract) == ("fake", CONTRACT)
    assert runner(PIXELS[:0]).shape == (0, 32, 32, 1)
    bound = np.asarray(runner.bind(PIXELS[1:2])())
    np.testing.assert_allclose(bound[0, 0], want[1, ..., 0], atol=1e-6)
    with pytest.raises(InputError, match="uint8 pixels"):
        runner(PIXELS[:, :16])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda output: output * np.nan, "NaN"),
        (lambda output: output + 5, "expected probabilities 0..1"),
        (lambda output: output[..., :16], "one a pixel"),
        (lambda output: 1 / 0, r"fake cannot run it \(division by zero\)"),
    ],
)
def test_bad_output_is_one_line(change: Callable[[Any], Any], message: str) -> None:
    runner = SessionRunner("fake", Path("f.fake"), CONTRACT, Mean(change))
    with pytest.raises(InputError, match=message) as caught:
        runner(PIXELS)
    assert "\n" not in str(caught.value)


def test_refused_file_is_one_line(tool: Tool, weights: Path, tmp_path: Path) -> None:
    tool.content = b"refused"
    with pytest.raises(InputError, match=r"fake cannot load it \(line one\)$"):
        Fake().open(Fake().prepare(weights, tmp_path), 1)


def test_registering_the_peers_imports_no_tool_and_telemetry_is_off() -> None:
    modules = sorted({package.module for peer in PEERS for package in peer.packages} | {"torch"})
    code = (
        "import os, sys\n"
        "from egeunet.benchmarks.runtimes import known_runtimes\n"
        "known_runtimes()\n"
        f"print([name for name in {modules} if name in sys.modules])\n"
        "from egeunet.benchmarks.peers.telemetry import no_telemetry\n"
        "no_telemetry()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
        "try: import openvino_telemetry\n"
        "except ImportError: print('off')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[]\n1\noff\n", done.stderr
