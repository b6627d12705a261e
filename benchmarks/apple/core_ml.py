"""One Core ML package on chosen compute units of this Mac.

Times come from ``coremltools.models.ml_program.experimental.perf_utils``, which reads how
long Core ML's own calls took; coremltools 9 marks it experimental.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.runners.coreml_runner import read_package
from egeunet.export.runners.runner import (
    Pixels,
    Probability,
    checked_pixels,
    checked_probability,
    first_line,
)
from egeunet.model.errors import EgeunetError, InputError, needs_extra

#: Our name -> coremltools.ComputeUnit's, and for people.
UNITS = {
    "all": ("ALL", "any compute unit"),
    "cpu": ("CPU_ONLY", "CPU"),
    "gpu": ("CPU_AND_GPU", "CPU and GPU"),
    "ane": ("CPU_AND_NE", "CPU and Neural Engine"),
}


@dataclass(frozen=True)
class Times:
    """What one package took, milliseconds.

    Attributes:
        load_ms: loading the compiled package.
        first_ms: the first inference.
        samples_ms: the timed inferences, in order.
    """

    load_ms: float
    first_ms: float
    samples_ms: tuple[float, ...]


class CoreMLPackage:
    """A package and how its input is made.

    Raises:
        InputError: not a package of ours that can be read.
        MissingExtraError: coremltools or torch is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with needs_extra("torch"):
            self._package, self._takes_image, self.contract = read_package(path)

    def inputs(self, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        """What Core ML takes for one image, uint8 (1, H, W, 3): an image, or (1, 3, H, W) float32.

        MLModelBenchmarker's own random inputs fail for images (coremltools 9 compares the
        feature's message with a string), so these are always given.
        """
        image = checked_pixels(pixels, self.contract)
        given: Any
        if self._takes_image:
            from PIL import Image

            given = Image.fromarray(image[0])
        else:
            normalized = self.contract.normalize(image).transpose(0, 3, 1, 2)
            given = np.ascontiguousarray(normalized, np.float32)
        return {self._package.input_name: given}

    def on(self, unit: str) -> PackageOnUnit:
        """The package loaded by Core ML on one of :data:`UNITS`.

        Raises:
            InputError: Core ML refuses it.
        """
        return PackageOnUnit(self, unit)

    @property
    def output_name(self) -> str:
        """Of the package's only output."""
        return self._package.output_name


class PackageOnUnit:
    """A package that Core ML has loaded on certain compute units."""

    def __init__(self, package: CoreMLPackage, unit: str) -> None:
        from egeunet.export.coreml.toolkit import coremltools

        ct = coremltools()
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

        self._package, self._unit = package, unit
        with _explained(package.path, unit):
            units = getattr(ct.ComputeUnit, UNITS[unit][0])
            self._model = ct.models.MLModel(str(package.path), compute_units=units)
            self._benchmarker = MLModelBenchmarker(self._model)

    def probability(self, pixels: Pixels) -> Probability:
        """Run one image, uint8 (1, H, W, 3); float32 (1, H, W, 1).

        Raises:
            InputError: Core ML fails, or the result is no probability.
        """
        with _explained(self._package.path, self._unit):
            result = self._model.predict(self._package.inputs(pixels))
        output = np.asarray(result[self._package.output_name])  # (1, 1, H, W)
        return checked_probability(self._package.path, output.transpose(0, 2, 3, 1), pixels)

    def times(self, pixels: Pixels, runs: int, warmup: int) -> Times:
        """Time the load, the first inference and then ``runs`` after ``warmup`` more.

        Raises:
            InputError: Core ML fails, or gives no durations.
        """

        async def measure() -> Times:
            inputs, timer = self._package.inputs(pixels), self._benchmarker
            load = await timer.benchmark_load(iterations=1)
            first = await timer.benchmark_predict(inputs=inputs, iterations=1)
            await timer.benchmark_predict(inputs=inputs, iterations=warmup)
            timed = await timer.benchmark_predict(inputs=inputs, iterations=runs)
            return Times(load.samples[0], first.samples[0], tuple(map(float, timed.samples)))

        with _explained(self._package.path, self._unit):
            return asyncio.run(measure())

    def devices(self, pixels: Pixels) -> dict[str, int]:
        """How many operators Core ML's plan puts on which device, as "cpu", "gpu", "ane".

        Raises:
            InputError: this macOS gives no plan (it takes macOS 14.4).
        """
        names = {"MLCPU": "cpu", "MLGPU": "gpu", "MLNeuralEngine": "ane"}

        async def plan() -> list[Any]:
            inputs = self._package.inputs(pixels)
            return await self._benchmarker.benchmark_operation_execution(
                inputs=inputs, iterations=1
            )

        with _explained(self._package.path, self._unit):
            operations = asyncio.run(plan())
        usages = [each.compute_device_usage for each in operations]
        kinds = [type(use.preferred_compute_device).__name__ for use in usages if use]
        counted = Counter(kind.removesuffix("ComputeDevice") for kind in kinds)
        return {names.get(kind, kind): count for kind, count in sorted(counted.items())}


@contextmanager
def _explained(path: Path, unit: str) -> Iterator[None]:
    """Whatever Core ML raises becomes one line."""
    try:
        yield
    except EgeunetError:
        raise
    except Exception as error:
        message = first_line(error)
        raise InputError(f"{path}: Core ML fails on {UNITS[unit][1]} ({message})") from error
