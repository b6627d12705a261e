"""What is packaged, which way imports go, and what runs without torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import tiny_models as tiny
from egeunet.model import ModelContract

ROOT = Path(__file__).resolve().parents[2]
#: A folder may import itself and those before it.
ROAD = ("model", "export", "quantize", "benchmarks")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted(path for folder in ROAD for path in (ROOT / folder).rglob("*.py"))


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_list_of_packages_is_the_folders() -> None:
    folders = {
        "egeunet." + ".".join(init.parent.relative_to(ROOT).parts)
        for folder in ROAD
        for init in (ROOT / folder).rglob("__init__.py")
    }
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == folders
    assert len(listed) == len(folders)


def test_every_source_file_lies_in_a_package() -> None:
    for source in SOURCES:
        assert (source.parent / "__init__.py").is_file(), f"{source} would not be installed"


def test_names_map_onto_the_folders_and_there_is_no_egeunet_folder() -> None:
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    assert mapping == {f"egeunet.{folder}": folder for folder in ROAD}
    assert not (ROOT / "egeunet").exists(), "it would shadow an installed egeunet"


@pytest.mark.parametrize("folder", ROAD)
def test_types_and_data_are_packaged(folder: str) -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"][f"egeunet.{folder}"]
    assert (ROOT / folder / "py.typed").is_file()
    packaged = {path for pattern in patterns for path in (ROOT / folder).glob(pattern)}
    data = {
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".")
    }
    assert data <= packaged, f"not packaged: {sorted(map(str, data - packaged))}"


def test_running_a_model_needs_neither_torch_nor_a_runtime_one_did_not_ask_for() -> None:
    names = {re.split(r"[^\w-]", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert names == {"numpy", "pillow", "safetensors", "tqdm"}
    extras = PROJECT["project"]["optional-dependencies"]
    assert {"onnx", "tflite", "coreml", "train", "peers", "dev", "all"} <= set(extras)


def test_the_installed_distribution_is_this_one() -> None:
    assert metadata.version("egeunet-mobile") == PROJECT["project"]["version"]
    groups = {**PROJECT["project"].get("entry-points", {})}
    groups["console_scripts"] = PROJECT["project"]["scripts"]
    for group, declared in groups.items():
        installed = {
            point.name: point.value
            for point in metadata.entry_points(group=group)
            if point.value.startswith("egeunet.")
        }
        assert installed == declared, f"{group}: install again"


@pytest.mark.parametrize("name", PROJECT["project"]["scripts"])
def test_every_command_helps_with_examples(name: str, run_command: Run) -> None:
    done = run_command(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    _, found, examples = done.stdout.partition("examples:")
    assert found, f"{name} --help shows no examples"
    assert f"  {name} " in examples


_MODULE = re.compile(r"egeunet(\.\w+)+(:\w+)?")


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, and of every string that is a module's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and _MODULE.fullmatch(str(node.value)):
            yield node.lineno, str(node.value).replace(":", ".")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(source: Path) -> None:
    own = ROAD.index(source.relative_to(ROOT).parts[0])
    for line, module in imported(ast.parse(source.read_text())):
        parts = module.split(".")
        where = f"{source.relative_to(ROOT)}:{line} imports {module}"
        assert parts[0] not in (*ROAD, ""), f"{where}: write egeunet.X"
        if parts[0] == "egeunet" and parts[1] in ROAD:
            assert ROAD.index(parts[1]) <= own, f"{where}: against the road"


_WITHOUT_TORCH = """
import sys
import numpy as np
import egeunet.benchmarks, egeunet.export, egeunet.model, egeunet.model.metrics, egeunet.quantize
from egeunet.export.runners import open_runner
for path in sys.argv[1:]:
    runner = open_runner(path)
    probability = runner(np.zeros((2, 32, 32, 3), np.uint8))
    assert probability.shape == (2, 32, 32, 1)
    print(runner.name)
import importlib.util
assert "no_torch" in importlib.util.find_spec("torch").origin
print(sorted(name for name in sys.modules if name.partition(".")[0] == "torch"))
"""


def test_models_run_where_torch_is_not_installed(tmp_path: Path) -> None:
    contract = ModelContract(32, 32).to_dict()
    files = {"a.onnx": tiny.onnx_bytes(contract), "b.tflite": tiny.tflite_bytes(contract)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    # Before the real one on the path of this process and of those that it starts.
    blocker = tmp_path / "no_torch"
    blocker.mkdir()
    text = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
    (blocker / "torch.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": str(blocker), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _WITHOUT_TORCH, *(str(tmp_path / name) for name in files)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    *names, left = done.stdout.splitlines()
    assert len(names) == 2 and left == "[]"


def test_what_needs_torch_says_so_where_it_is_absent(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import egeunet.model as model\n"
        "from egeunet.model.errors import MissingExtraError\n"
        "for name in ('EGEUNet', 'load_weights'):\n"
        "    try: getattr(model, name)\n"
        "    except MissingExtraError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    line = "torch is not installed; it belongs to the extra [torch]: run pip install "
    assert [text.startswith(line) for text in done.stdout.splitlines()] == [True, True]


def test_importing_the_packages_loads_nothing_heavy() -> None:
    code = (
        "import sys, egeunet.benchmarks, egeunet.export, egeunet.model, egeunet.quantize\n"
        "heavy = 'torch onnx onnxruntime ai_edge_litert coremltools matplotlib'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr
