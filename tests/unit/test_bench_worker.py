"""Worker processes: what they answer, and what is left when they die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tiny_models as tiny
from egeunet.benchmarks.candidates import Candidate
from egeunet.benchmarks.crew import Crew
from egeunet.benchmarks.latency import Plan, measure
from egeunet.benchmarks.runtimes import find_runtime, known_runtimes, runtime
from egeunet.benchmarks.worker_process import WorkerProcess
from egeunet.export.runners import open_runner
from egeunet.model import ModelContract
from egeunet.model.errors import InputError

CONTRACT = ModelContract(32, 32)
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good.tflite, good.onnx, and broken ones."""
    folder = tmp_path_factory.mktemp("models")
    contract = CONTRACT.to_dict()
    files = {
        "good.tflite": tiny.tflite_bytes(contract),
        "good.onnx": tiny.onnx_bytes(contract),
        "nan.onnx": tiny.onnx_bytes(contract, bias=float("nan")),
        "crash.tflite": tiny.tflite_bytes(contract, crash=True),
        "large.onnx": tiny.onnx_bytes(ModelContract(64, 64).to_dict(), size=64),
        "half.tflite": tiny.tflite_bytes(contract)[:300],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def worker(models: Path) -> Iterator[WorkerProcess]:
    """good.tflite, opened."""
    with WorkerProcess("litert-xnnpack", models / "good.tflite", 1) as process:
        process.ask("open")
        yield process


def test_a_worker_gives_what_the_runner_gives(worker: WorkerProcess, models: Path) -> None:
    here = open_runner(models / "good.tflite")(IMAGE)
    np.testing.assert_array_equal(worker.ask("probability", IMAGE), here)


def test_opening_says_what_it_costs(worker: WorkerProcess) -> None:
    opened = worker.ask("open")
    assert opened.contract == CONTRACT
    assert opened.load_ms > 0 and opened.first_ms > 0
    # Python and NumPy are there; the test process and its torch are not.
    assert 10e6 < opened.peak_memory_bytes < 400e6
    assert "float32" in opened.precision_note


def test_a_turn_is_as_long_as_asked(worker: WorkerProcess) -> None:
    worker.ask("bind", IMAGE)
    assert len(worker.ask("turn", 7, 0.0).samples_ms) == 7
    turn = worker.ask("turn", 1, 0.05)
    assert len(turn.samples_ms) > 1
    assert sum(turn.samples_ms) > 0
    assert turn.cpu_share > 0


def test_a_refusal_is_a_line_and_the_worker_lives_on(worker: WorkerProcess) -> None:
    with pytest.raises(InputError, match="runner takes uint8 pixels"):
        worker.ask("probability", IMAGE[:, :16])
    with pytest.raises(InputError, match="AttributeError"):
        worker.ask("no_such_method")
    assert worker.alive
    assert worker.ask("probability", IMAGE).shape == (1, 32, 32, 1)


def test_a_turn_needs_an_image_first(models: Path) -> None:
    with WorkerProcess("onnxruntime", models / "good.onnx", 1) as process:
        with pytest.raises(InputError, match="before open"):
            process.ask("bind", IMAGE)
        process.ask("open")
        with pytest.raises(InputError, match="before bind"):
            process.ask("turn", 1, 0.0)


def test_a_file_that_crashes_its_runtime_costs_only_the_worker(models: Path) -> None:
    with WorkerProcess("litert-xnnpack", models / "crash.tflite", 1) as process:
        with pytest.raises(InputError, match=r"crash\.tflite in litert-xnnpack: .*signal 11"):
            process.ask("open")
        assert not process.alive
        with pytest.raises(InputError, match="signal 11"):  # the reason stays
            process.ask("open")


def test_a_killed_worker_is_a_line(models: Path) -> None:
    with WorkerProcess("onnxruntime", models / "good.onnx", 1) as process:
        process.ask("open")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(InputError, match="signal 9"):
            process.ask("probability", IMAGE)


def test_no_answer_in_time_ends_the_worker(models: Path) -> None:
    start = time.monotonic()
    with WorkerProcess("onnxruntime", models / "good.onnx", 1, patience=0.01) as process:
        with pytest.raises(InputError, match=r"no answer in 0\.01 s"):
            process.ask("open")
        assert not process.alive
    assert time.monotonic() - start < 60


def test_ctrl_c_does_not_reach_a_worker(worker: WorkerProcess) -> None:
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert worker.ask("probability", IMAGE).shape == (1, 32, 32, 1)


def test_nothing_is_left_behind(models: Path) -> None:
    process = WorkerProcess("onnxruntime", models / "good.onnx", 1)
    process.ask("open")
    pid = process.pid
    assert pid is not None
    process.close()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def candidates(models: Path, *names: str) -> list[Candidate]:
    """The files in the runtime of their suffix, one thread."""
    by_suffix = {".tflite": "litert-builtin", ".onnx": "onnxruntime"}
    return [
        Candidate(models / name, name, find_runtime(by_suffix[Path(name).suffix]), 1)
        for name in names
    ]


def test_a_crew_takes_turns(models: Path) -> None:
    said: list[str] = []
    plan = Plan(runs=8, seconds=0, blocks=2, turns=2, warmup=1)
    with Crew(candidates(models, "good.onnx", "good.tflite", "nan.onnx")) as crew:
        assert crew.reference == "good.onnx|onnxruntime|1"
        timings, failed = measure(crew.timed, IMAGE, plan, step=said.append)
    assert not failed
    ids = ["good.onnx|onnxruntime|1", "good.tflite|litert-builtin|1", "nan.onnx|onnxruntime|1"]
    assert said == ids * 4  # A B C A B C
    assert all(timings[id].turn_medians.shape == (2, 2) for id in ids)
    assert all(len(timings[id].samples_ms) == 8 for id in ids)


def test_a_file_that_nobody_can_run_ends_the_benchmark(models: Path) -> None:
    with pytest.raises(InputError, match=r"half\.tflite"):
        Crew(candidates(models, "good.onnx", "half.tflite"))


def test_a_file_of_another_size_ends_the_benchmark(models: Path) -> None:
    with pytest.raises(InputError, match="takes 64x64 images and the reference 32x32"):
        Crew(candidates(models, "good.onnx", "large.onnx"))


def test_runtimes_have_unique_names_and_say_whether_they_can_run() -> None:
    known = known_runtimes()
    assert len({each.name for each in known}) == len(known)
    assert [each.peer for each in known] == sorted(each.peer for each in known)  # ours first
    for each in known:
        assert each.problem() is None or "\n" not in str(each.problem())
    with pytest.raises(InputError, match="unknown runtime 'tpu'; known: torch, "):
        find_runtime("tpu")
    with pytest.raises(ValueError, match="two runtimes are called 'torch'"):
        runtime(type(find_runtime("torch")))
