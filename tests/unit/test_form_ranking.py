"""What a brief fine-tuning says about forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from egeunet.model import EGEUNet, ModelContract, load_weights
from egeunet.model.data.synthetic import synthetic_dataset
from egeunet.model.errors import InputError
from egeunet.model.pictures import Pictures
from egeunet.quantize import form_ranking
from egeunet.quantize.form_ranking import FORMS, FormRow, rank_forms, table
from egeunet.quantize.static_graph import build_static_graph, static_names
from egeunet.quantize.static_norms import with_static_norms

CONTRACT = ModelContract(64, 64)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    data = synthetic_dataset(6, 64, seed=3)
    return Pictures.from_arrays(data.images, data.masks)


@pytest.fixture(scope="module")
def reference(pictures: Pictures) -> EGEUNet:
    model = load_weights()[0].eval()
    with torch.no_grad():  # or all of so small an image is background
        model.final.bias -= model(pictures.images.float() / 255).logits.median()
    return model


def test_the_first_form_computes_the_reference(
    reference: EGEUNet, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_ranking, "_RATE", 1e-9)
    assert static_names(reference, FORMS["nothing"]) == ()
    row, worse = rank_forms(
        reference,
        CONTRACT,
        pictures,
        {"all": pictures},
        {name: FORMS[name] for name in ("nothing", "all of these")},
        steps=1,
    )
    assert row.mask_iou["all"] > 0.9 > worse.mask_iou["all"]


def test_every_form_can_be_built(reference: EGEUNet, pictures: Pictures) -> None:
    sizes = {}
    for what, form in FORMS.items():
        names = static_names(reference, form)
        model = with_static_norms(reference, names, pictures.images.float() / 255)
        graph = build_static_graph(model, CONTRACT, form).graph
        sizes[what] = sum(node.op == "rsqrt" for node in graph.nodes)
    assert sizes["nothing"] == max(sizes.values())
    assert sizes["all of these"] == min(sizes.values())


def test_the_reference_is_not_trained(reference: EGEUNet, pictures: Pictures) -> None:
    before = reference.final.weight.detach().clone()
    form = replace(FORMS["ReLU for GELU"], dynamic_norms=())
    seen: list[FormRow] = []
    rank_forms(reference, CONTRACT, pictures, {"a": pictures}, {"x": form}, 2, seen.append)
    assert torch.equal(reference.final.weight, before)
    assert [row.what for row in seen] == ["x"]
    assert np.isfinite(seen[0].mask_iou["a"])


def test_a_table_has_a_column_a_part() -> None:
    rows = [FormRow("nothing", {"a": 1.0, "b": 0.5}), FormRow("relu", {"a": 0.25, "b": 0.125})]
    assert table(rows).splitlines() == [
        "| change | a | b |",
        "|---|---|---|",
        "| nothing | 1.0000 | 0.5000 |",
        "| relu | 0.2500 | 0.1250 |",
    ]


def test_no_step_is_refused(reference: EGEUNet, pictures: Pictures) -> None:
    with pytest.raises(InputError, match="--steps must be 1 or more, got 0"):
        rank_forms(reference, CONTRACT, pictures, {}, {}, 0)
