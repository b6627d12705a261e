"""The shipped weights in every format and precision, exported once, and real images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egeunet.export import Artifact, export
from egeunet.model.data.images import read_image
from egeunet.model.data.resize import resize_image
from egeunet.model.weights import shipped_weights

IMAGES = 8
Export = Callable[[str, str], Artifact]


@pytest.fixture(scope="session")
def weights() -> Path:
    """The weights in the package."""
    path = shipped_weights()
    if not path.is_file():
        pytest.skip("SKIPPED LOUDLY: no shipped weights, so no format is checked on real images")
    return path


@pytest.fixture(scope="session")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """``exported(format, precision)``: each is made at its first use and kept."""
    out = tmp_path_factory.mktemp("exported")
    made: dict[tuple[str, str], Artifact] = {}

    def once(format: str, precision: str) -> Artifact:
        if (format, precision) not in made:
            # The gates of the exporter are for synthetic pictures; here are real ones.
            made[format, precision] = export(
                format, precision, weights=weights, out=out, check=False
            )
        return made[format, precision]

    return once


@pytest.fixture(scope="session")
def images(isic: Path) -> Any:
    """uint8 (N, 256, 256, 3): real test images, spread over the whole test part."""
    with (isic / "split_1500_650.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    chosen = rows[:: len(rows) // IMAGES][:IMAGES]
    paths = [isic / row["official_part"] / "images" / f"{row['id']}.jpg" for row in chosen]
    return np.stack([resize_image(read_image(path), 256, 256) for path in paths])
