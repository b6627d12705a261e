"""What is measured in what, and which exports are taken or made."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny_models as tiny
from egeunet.benchmarks import candidates as module
from egeunet.benchmarks.artefacts import NOT_KEPT, artefacts_of
from egeunet.benchmarks.candidates import Choice
from egeunet.benchmarks.elsewhere import Elsewhere
from egeunet.benchmarks.model_file import describe_file, exported_from
from egeunet.export.provenance import sha256_of
from egeunet.model.errors import GateError, InputError

ONE = (("tflite", "float32", "egeunet_float32.tflite"),)


class Peer:
    """A peer as its package would register it."""

    name, peer, timed, note, precision = "stand-in", True, True, None, "float32"

    def __init__(self, trouble: str | None = None, ready: bool = False) -> None:
        self.trouble, self.ready = trouble, ready

    def problem(self) -> str | None:
        return None

    def accepts(self, path: Path) -> bool:
        return path.suffix == ".peer"

    def open(self, path: Path, threads: int) -> Any:
        raise AssertionError("not in this process")

    def cached(self, weights: Path, folder: Path) -> Path | None:
        return folder / "cached.peer" if self.ready else None

    def prepare(self, weights: Path, folder: Path) -> Path:
        if self.trouble:
            raise InputError(self.trouble)
        return folder / "made.peer"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network at 32 pixels."""
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    return tiny.random_weights(path, size=32)


def with_peer(monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    ours = [each for each in module.known_runtimes() if not each.peer]
    monkeypatch.setattr(module, "known_runtimes", lambda: (*ours, peer))


def ids(choice: Choice) -> list[str]:
    return [candidate.id for candidate in choice.candidates()[0]]


def test_named_files_are_measured_in_their_runtimes_beside_torch() -> None:
    choice = Choice(Path("w.safetensors"), (Path("a.tflite"), Path("b.onnx")), True, threads=(1, 2))
    assert ids(choice) == [
        "w.safetensors|torch|1", "w.safetensors|torch|2",
        "b.onnx|onnxruntime|1", "b.onnx|onnxruntime|2",
        "a.tflite|litert-xnnpack|1", "a.tflite|litert-xnnpack|2",
        "a.tflite|litert-builtin|1", "a.tflite|litert-builtin|2",
    ]  # fmt: skip


def test_an_interpreter_is_run_once_whatever_the_threads() -> None:
    choice = Choice(Path("w.safetensors"), (Path("a.mlpackage"),), True, threads=(1, 2))
    assert ids(choice)[2:] == ["a.mlpackage|coreml-interpreter|1"]


def test_without_named_files_compiled_torch_and_peers_join(monkeypatch: pytest.MonkeyPatch) -> None:
    with_peer(monkeypatch, Peer())
    choice = Choice(Path("w.safetensors"), (Path("a.onnx"),), False, conversions=Path("p"))
    assert "w.safetensors|torch-compile|1" in ids(choice)
    assert "made.peer|stand-in|1" in ids(choice)


def test_quick_leaves_out_what_takes_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice(Path("w.safetensors"), (Path("a.onnx"),), False, quick=True)
    for peer, there in ((Peer(), False), (Peer(ready=True), True)):
        with_peer(monkeypatch, peer)
        found, skipped = choice.candidates()
        assert any(each.runtime is peer for each in found) is there
        reasons = {skip.runtime: skip.reason for skip in skipped}
        assert "--quick" in reasons["torch-compile"]
        assert ("stand-in" in reasons) is not there
    named = replace(choice, runtimes=("torch-compile",))
    assert ids(named) == ["w.safetensors|torch|1", "w.safetensors|torch-compile|1"]


def test_a_peer_that_fails_is_skipped_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with_peer(monkeypatch, Peer(trouble="the tool crashed"))
    _, skipped = Choice(Path("w.safetensors"), (), False).candidates()
    assert ("stand-in", None, "the tool crashed") in [
        (skip.runtime, skip.file, skip.reason) for skip in skipped
    ]


def test_files_of_one_name_are_told_apart() -> None:
    files = (Path("x/a.onnx"), Path("y/a.onnx"))
    assert ids(Choice(Path("w.safetensors"), files, True))[1:] == [
        "x/a.onnx|onnxruntime|1", "y/a.onnx|onnxruntime|1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": (0,)}, "threads must be positive integers"),
        ({"threads": (1, 1)}, "thread counts must differ"),
        ({"runtimes": ("tpu",)}, "unknown runtime 'tpu'"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Choice(Path("w.safetensors"), (), False, **options)


@pytest.mark.parametrize(
    ("file", "runtimes", "message"),
    [
        ("a.xyz", (), "no runtime takes '.xyz'"),
        ("a.onnx", ("litert-xnnpack",), "no runtime of litert-xnnpack takes it"),
        ("a.mlpackage", ("coreml",), "runtime coreml: Core ML runs on a Mac only"),
    ],
)
def test_a_file_for_no_runtime_is_refused(
    file: str, runtimes: tuple[str, ...], message: str
) -> None:
    choice = Choice(Path("w.safetensors"), (Path(file),), True, runtimes)
    with pytest.raises(InputError, match=message):
        choice.candidates()


def test_a_runtime_elsewhere_that_is_not_set_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"runtime litert-arm64: .*--setup arm64"):
        Elsewhere(("litert-arm64",), root=tmp_path)


def test_files_for_elsewhere_only_are_not_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elsewhere, "problem", lambda self, name: None)
    files = (Path("a.tflite"), Path("b.onnx"))
    arm = Elsewhere(("litert-arm64",))
    assert arm.leaves(files, ("torch",)) == (Path("b.onnx"),)
    assert arm.leaves(files, ("torch", "litert-xnnpack")) == files
    assert Elsewhere().leaves(files, ("torch",)) == files


def test_an_export_is_made_once_and_taken_afterwards(weights: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    (path,), missing = artefacts_of(weights, out, ONE, said.append)
    assert (path, missing, said) == (out / ONE[0][2], [], [ONE[0][2]])
    assert exported_from(path) is not None
    first = path.stat().st_mtime_ns
    assert artefacts_of(weights, out, ONE)[0] == [path]
    assert path.stat().st_mtime_ns == first


def test_a_file_of_other_weights_is_left_alone(weights: Path, tmp_path: Path) -> None:
    other = tiny.random_weights(tmp_path / "other.safetensors", seed=1, size=32)
    (theirs,), _ = artefacts_of(other, tmp_path / "out", ONE)
    before = sha256_of(theirs)
    (path,), _ = artefacts_of(weights, tmp_path / "out", ONE)
    assert path.parent.name == f"weights-{sha256_of(weights)[:12]}"
    assert sha256_of(theirs) == before
    assert artefacts_of(weights, tmp_path / "out", ONE)[0] == [path]  # found there again


def test_an_export_of_an_older_version_is_made_again(weights: Path, tmp_path: Path) -> None:
    (path,), _ = artefacts_of(weights, tmp_path, ONE)
    beside = path.with_name(path.name + ".json")
    report = json.loads(beside.read_text())
    report["environment"]["packages"]["egeunet-mobile"] = "0.0.1"
    beside.write_text(json.dumps(report))
    assert artefacts_of(weights, tmp_path, ONE)[0] == [path]
    assert json.loads(beside.read_text())["environment"]["packages"]["egeunet-mobile"] != "0.0.1"


def test_an_export_that_misses_its_gates_is_said(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise GateError("not as good as the reference")

    monkeypatch.setattr("egeunet.export.exporter.export", refuse)
    files, missing = artefacts_of(weights, tmp_path, ONE)
    assert files == []
    assert [(m.runtime, m.file) for m in missing] == [(NOT_KEPT, ONE[0][2])]


def test_a_file_is_described_by_its_report_or_else_by_itself(weights: Path, tmp_path: Path) -> None:
    (path,), _ = artefacts_of(weights, tmp_path, ONE)
    written = describe_file(path)
    assert (written["format"], written["precision"]) == ("tflite", "float32")
    assert written["bytes"] == path.stat().st_size
    alone = tmp_path / "copy.tflite"
    shutil.copyfile(path, alone)
    read = describe_file(alone)
    assert read["weight_bytes"] == pytest.approx(written["weight_bytes"], rel=0.01)
    assert read | {"weight_bytes": 0} == written | {"weight_bytes": 0}
    with alone.open("ab") as file:
        file.write(b"\0")  # the report of the other file is not about this one
    assert describe_file(alone)["sha256"] != written["sha256"]


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_damaged_files_are_a_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(b"\x08\0\0\0TFL3" + bytes(range(256)))
    with pytest.raises(InputError, match="damaged"):
        describe_file(path)
    with pytest.raises(InputError, match="model not found"):
        describe_file(tmp_path / f"absent{suffix}")
