"""The precision ``int8`` as egeunet-export finds it (an entry point in pyproject.toml)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph
from egeunet.export.registry import Prepared, find_format
from egeunet.export.request import ExportRequest, Source
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration, calibrate
from egeunet.quantize.int8 import quantize_int8
from egeunet.quantize.onnx_floats import onnx_float_outputs
from egeunet.quantize.range_methods import RangeMethod
from egeunet.quantize.recipe_file import StaticRecipe
from egeunet.quantize.recipe_precision import shipped_recipes_of, static_int8
from egeunet.quantize.recipes import prepared_by_recipe
from egeunet.quantize.scale_ties import float_outputs

if TYPE_CHECKING:
    from egeunet.model.data.dataset import Sample

#: More images of a folder change the mean of their extremes no more.
_MOST_IMAGES = 100
#: Pictures made when nothing better is at hand, and their series (checks use another).
_SYNTHETIC_IMAGES = 48
_SYNTHETIC_SEED = 2000


def int8(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """What ``--recipe`` says (see recipes.py), else what ``--norms`` says.

    ``tuned`` is the result of a fine-tuning, smaller, faster and as accurate; it exists for the
    shipped weights at their size, where it is the default, and ``--target-bytes`` chooses
    among several. ``exact`` is post-training quantization of the network as it is, for any weights.

    Raises:
        InputError: a recipe or a calibration that is not for this export; tuned norms where
            no recipe of these weights is shipped.
    """
    if request.recipe is not None:
        return prepared_by_recipe(request.recipe, graph, source, request)
    if request.norms == "exact" or request.calibration is not None:
        return int8_mixed(graph, source, request)
    recipes = _recipes(source) if request.norms == "tuned" else shipped_recipes_of(source)
    if not recipes:
        return int8_mixed(graph, source, request)
    return _best((static_int8(one, source, request) for one in recipes), request, source)


def _best(candidates: Iterable[Prepared], request: ExportRequest, source: Source) -> Prepared:
    """The first that has no more than ``target_bytes``; if none has, the smallest, which shows
    how close it comes."""
    if request.target_bytes is None:
        return next(iter(candidates))
    candidates = list(candidates)
    sizes = [_size(one, source, request) for one in candidates]
    fitting = [one for one, n in zip(candidates, sizes, strict=True) if n <= request.target_bytes]
    return fitting[0] if fitting else candidates[int(np.argmin(sizes))]


def _recipes(source: Source) -> list[StaticRecipe]:
    """The shipped recipes of these weights, at least one."""
    recipes = shipped_recipes_of(source)
    if not recipes:
        raise InputError(
            f"--norms tuned: no recipe is shipped for {source.weights} at "
            f"{source.contract.height} x {source.contract.width}; make one with "
            "egeunet-quantize finetune and give it as --recipe"
        )
    return recipes


def int8_tuned(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """The shipped recipe that loses least, as ``--norms tuned``."""
    return static_int8(_recipes(source)[0], source, request)


def int8_mixed(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """Post-training quantization of the exact norms, some of whose operators stay float."""
    return int8_of(graph, calibration_for(graph, source, request.calibration), source, request)


def int4_mixed(graph: Graph, source: Source, request: ExportRequest) -> Prepared:
    """The shipped recipe with most 4-bit pointwise kernels.

    Raises:
        InputError: none is shipped for these weights.
    """
    found = [one for one in shipped_recipes_of(source) if one.form.pointwise_bits == 4]
    found.sort(key=lambda recipe: recipe.form.four_bit_inputs)
    if not found:
        raise InputError(
            f"int4-mixed: no recipe with 4-bit kernels is shipped for {source.weights}; make one "
            "with egeunet-quantize finetune --pointwise-bits 4 and give it as --recipe"
        )
    return static_int8(found[0], source, request)


def _size(prepared: Prepared, source: Source, request: ExportRequest) -> int:
    """Bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        kind = find_format(request.format)
        path = Path(folder) / f"file{kind.suffix}"
        kind.write(prepared, source, request, path)
        return path.stat().st_size


def int8_of(
    graph: Graph, calibration: Calibration, source: Source, request: ExportRequest
) -> Prepared:
    """Static post-training quantization; GroupNorms and RSQRT stay in float32.

    With ranges of extremes the ten GroupNorms lose three points of IoU in int8 and the 37
    LayerNorms a tenth of one. RSQRT in int8 has no fast kernel and takes a third of all
    instructions (docs/decisions.md). Both are computed in float32 between a DEQUANTIZE and a
    QUANTIZE, and the report says how many operators that leaves. An .onnx file has whole norms,
    which are float32 as well (onnx_floats.py).
    """
    kept = float_outputs(graph) if request.format == "tflite" else onnx_float_outputs(graph)
    quantized = quantize_int8(graph, calibration, source.contract, request.io_type, kept)
    return Prepared(quantized, {"norms": "exact", **calibration.summary()})


def calibration_for(
    graph: Graph,
    source: Source,
    folder: Path | None,
    method: RangeMethod = RangeMethod(),  # noqa: B008 - frozen
) -> Calibration:
    """Ranges from a folder's images, else the shipped ones if they are of this graph and
    these weights, else from synthetic pictures; which it was is in ``.source``."""
    contract, ids = source.contract, []
    if folder is not None:
        samples = representative_samples(folder)
        name, images = f"{len(samples)} images of {folder.name}", _images(samples, contract)
        ids = [sample.id for sample in samples]
    else:
        for shipped in shipped_calibrations():
            if shipped.matches(graph, source.sha256):
                return shipped
        name, images = "synthetic images", _synthetic_images(contract)
    return calibrate(
        graph, contract, images, source=name, weights_sha256=source.sha256, method=method, ids=ids
    )


def shipped_calibrations() -> list[Calibration]:
    """The calibrations in the package."""
    folder = resources.files("egeunet.quantize") / "shipped"
    with resources.as_file(folder) as path:
        return [Calibration.load(file) for file in sorted(path.glob("*.json"))]


def representative_samples(folder: Path, count: int = _MOST_IMAGES) -> tuple[Sample, ...]:
    """At most ``count`` samples of a folder, evenly spread; of its training part if it has
    one, as test images must not decide a scale.

    Raises:
        InputError: no image there.
    """
    from egeunet.model.data.dataset import KNOWN_LEAKS, find_dataset, without

    dataset = find_dataset(folder, require_masks=False)
    samples = dataset.split("train") if "train" in dataset.splits else dataset.samples
    samples = without(samples, KNOWN_LEAKS)
    if not samples:
        raise InputError(f"{folder}: no image to calibrate on")
    step = -(-len(samples) // count)
    return samples[::step]


def _images(samples: Sequence[Sample], contract: ModelContract) -> Iterator[NDArray[np.uint8]]:
    from egeunet.model.data.images import read_image, resize_image

    for sample in samples:
        yield resize_image(read_image(sample.image), contract.height, contract.width)


def _synthetic_images(contract: ModelContract) -> Iterator[NDArray[np.uint8]]:
    from egeunet.model.data.images import resize_image
    from egeunet.model.data.synthetic import synthetic_sample

    side = max(contract.height, contract.width)
    for index in range(_SYNTHETIC_IMAGES):
        image, _ = synthetic_sample(index, side, _SYNTHETIC_SEED)
        yield resize_image(image, contract.height, contract.width)
