"""What prediction is made of: names of outputs, shards, and the overlay picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from egeunet.benchmarks.overlay import COLOUR, bounding_box, overlay
from egeunet.benchmarks.pictures import output_names
from egeunet.benchmarks.sharding import Shard
from egeunet.model.errors import InputError


def test_overlay_marks_lesion_only() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:40, 20:70] = True
    before = image.copy()
    drawn = overlay(image, mask)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn[~mask], image[~mask])
    assert (drawn[10, 20:70] == COLOUR).all() and (drawn[10:40, 69] == COLOUR).all()
    centre = image[25, 45].astype(int)
    assert np.abs(drawn[25, 45] - (centre * 200 + np.array(COLOUR) * 56) // 256).max() <= 1
    assert bounding_box(mask) == (20, 10, 70, 40)
    np.testing.assert_array_equal(overlay(image, np.zeros_like(mask)), image)
    assert bounding_box(np.zeros_like(mask)) is None


NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "s/", "t/"]),
    st.sampled_from(["a", "A", "a.jpg", "a.png", "b", "b.c"]),
    st.sampled_from([".jpg", ".png", ".PNG"]),
)


@settings(deadline=None, max_examples=150)
@given(st.sets(NAMES, min_size=1, max_size=12).map(sorted))
@example(["a.jpg", "a.png", "a.png.jpg"])
def test_no_two_images_share_an_output_name(files: list[str]) -> None:
    names = output_names(files)
    assert len(set(names)) == len(files)
    for file, name in zip(files, names, strict=True):
        assert name == file or name == file.rsplit(".", 1)[0]


@settings(deadline=None, max_examples=100)
@given(number=st.integers(0, 50), count=st.integers(1, 60))
def test_shards_cover_everything_exactly_once(number: int, count: int) -> None:
    items = list(range(number))
    parts = [Shard(index, count).select(items) for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3/2", "0/2", "1/0", "-1/2", "1", "a/b", "1/2/3", "", "1 / 2"])
def test_shards_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="shard"):
        Shard.parse(text)
