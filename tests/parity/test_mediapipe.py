"""MediaPipe Tasks' ImageSegmenter runs the exported .tflite as it is.

MediaPipe runs in a process of its own: it brings a LiteRT of its own, and its
packages may differ from ours. ``EGEUNET_MEDIAPIPE_PYTHON`` names the interpreter of an
environment that has it; by default it is looked for in this one.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egeunet.export import Artifact, export
from egeunet.export.runners import open_runner
from egeunet.model import EGEUNet, ModelContract, save_weights
from egeunet.model.data.images import read_image
from egeunet.model.data.resize import resize_image
from egeunet.model.data.synthetic import synthetic_sample
from egeunet.model.metrics import agreement

pytestmark = [pytest.mark.xdist_group("formats"), pytest.mark.slow]
Segment = Callable[[Path, Any], "subprocess.CompletedProcess[str]"]
IMAGES = 20
#: Of a probability: both sides run LiteRT with XNNPACK, but not the same version of it.
MAX_ABS_DIFF = 1e-3
AGREEMENT = 0.9999

#: model.tflite, images.npy (N, H, W, 3) uint8 -> masks.npz: confidence and category (N, H, W)
_SCRIPT = """
import sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageSegmenter, ImageSegmenterOptions

model, images, out = sys.argv[1:]
options = ImageSegmenterOptions(
    base_options=BaseOptions(model_asset_path=model),
    output_confidence_masks=True, output_category_mask=True,
)
confidence, category = [], []
with ImageSegmenter.create_from_options(options) as segmenter:
    for pixels in np.load(images):
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        result = segmenter.segment(image)
        (mask,) = result.confidence_masks
        confidence.append(np.array(mask.numpy_view()).reshape(pixels.shape[:2]))
        category.append(np.array(result.category_mask.numpy_view()).reshape(pixels.shape[:2]))
np.savez(out, confidence=confidence, category=category)
"""


@pytest.fixture(scope="session")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    """``segment(model, images)``: run MediaPipe; ``masks.npz`` lies beside the model."""
    python = os.environ.get("EGEUNET_MEDIAPIPE_PYTHON", sys.executable)
    probe = "from mediapipe.tasks.python.vision import ImageSegmenter"
    found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    if found.returncode:
        reason = (found.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(
            f"SKIPPED LOUDLY: {python} has no MediaPipe ({reason}), so nothing shows that its "
            "ImageSegmenter takes our files; set EGEUNET_MEDIAPIPE_PYTHON"
        )
    folder = tmp_path_factory.mktemp("mediapipe")

    def run(model: Path, images: Any) -> subprocess.CompletedProcess[str]:
        np.save(folder / "images.npy", images)
        command = [python, "-c", _SCRIPT, model, folder / "images.npy", model.with_name("masks")]
        return subprocess.run(
            [*map(str, command)], capture_output=True, text=True, timeout=300, check=False
        )

    return run


def compare(segment: Segment, artifact: Artifact, images: Any) -> None:
    """The masks of MediaPipe and of LiteRT on the same pixels."""
    path = artifact.path
    done = segment(path, images)
    assert done.returncode == 0, done.stderr
    with np.load(path.with_name("masks.npz")) as masks:
        got, category = masks["confidence"], masks["category"]
    runner = open_runner(path)
    want = runner(images)[..., 0]
    assert got.shape == want.shape and got.dtype == np.float32
    threshold = runner.contract.threshold
    lesion, expected = got >= threshold, want >= threshold
    difference, shared = np.abs(got - want), agreement(lesion, expected)
    text = (
        f"{path.name}, {len(images)} images: probability max {difference.max():.2g} mean "
        f"{difference.mean():.2g}; masks agree on {shared:.5%}, {expected.mean():.1%} lesion"
    )
    print(text)
    assert difference.max() <= MAX_ABS_DIFF and shared >= AGREEMENT, text
    # With one mask MediaPipe's category is 0 for the object and 255 for the background,
    # parted at 0.5.
    clear = np.abs(got - 0.5) > MAX_ABS_DIFF
    assert set(np.unique(category)) <= {0, 255}
    assert ((category == 0) == (got > 0.5))[clear].all()


@pytest.fixture(scope="session")
def real_images(isic: Path) -> Any:
    """uint8 (20, 256, 256, 3): test images, spread over the whole test part."""
    with (isic / "split_1500_650.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    chosen = rows[:: len(rows) // IMAGES][:IMAGES]
    paths = [isic / row["official_part"] / "images" / f"{row['id']}.jpg" for row in chosen]
    return np.stack([resize_image(read_image(path), 256, 256) for path in paths])


# The int8 file has uint8 input, which needs no description: it carries the contract only.
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_shipped_weights_on_real_images(
    segment: Segment,
    exported: Callable[[str, str], Artifact],
    real_images: Any,
    precision: str,
) -> None:
    compare(segment, exported("tflite", precision), real_images)


@pytest.fixture(scope="session")
def weights_64x96(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network, for pictures that are not square."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, EGEUNet().eval(), ModelContract(64, 96))
    return path


@pytest.fixture(scope="session")
def pictures() -> Any:
    """uint8 (3, 64, 96, 3), drawn."""
    return np.stack([resize_image(synthetic_sample(i, 96, 7)[0], 64, 96) for i in range(3)])


def test_any_weights_and_size(
    segment: Segment, weights_64x96: Path, pictures: Any, tmp_path: Path
) -> None:
    artifact = export("tflite", weights=weights_64x96, out=tmp_path, check=False)
    compare(segment, artifact, pictures)


def test_without_the_description_it_is_refused(
    segment: Segment, weights_64x96: Path, pictures: Any, tmp_path: Path
) -> None:
    artifact = export(
        "tflite", weights=weights_64x96, out=tmp_path, check=False, metadata="contract"
    )
    done = segment(artifact.path, pictures)
    assert done.returncode != 0
    assert "NormalizationOptions metadata" in done.stderr
