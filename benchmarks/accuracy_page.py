"""The page of one model's accuracy: scores with intervals, published ones, worst images."""

from __future__ import annotations

from dataclasses import dataclass

from egeunet.benchmarks.bootstrap import Interval, intervals
from egeunet.benchmarks.evaluate import Evaluation
from egeunet.benchmarks.failure_kinds import ImageTraits, traits, verdict
from egeunet.benchmarks.labelled_images import SYNTHETIC, LabelledImages
from egeunet.model.contract import ModelContract
from egeunet.model.metrics import JACCARD_THRESHOLD, jaccard

_TITLES = {
    "iou": "pooled IoU (the paper's mIoU)",
    "dice": "pooled Dice (the paper's DSC)",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "mean_jaccard": "mean Jaccard, per image",
    "thresholded_jaccard": f"thresholded Jaccard, per image (< {JACCARD_THRESHOLD} counts 0)",
}
#: Ruan et al., MICCAI 2023 (arXiv:2307.08473), table 1, ISIC 2017:
#: name, parameters in millions, GFLOPs, mIoU, DSC.
_PUBLISHED = (
    ("UNet", 7.77, 13.78, 76.98, 86.99),
    ("UTNetV2", 12.80, 15.50, 77.35, 87.23),
    ("TransFuse", 26.16, 11.50, 79.21, 88.40),
    ("MobileViTv2", 2.87, 0.70, 78.72, 88.09),
    ("MobileNetv3", 1.19, 0.10, 77.69, 87.44),
    ("UNeXt-S", 0.32, 0.10, 78.26, 87.80),
    ("MALUNet", 0.177, 0.085, 78.78, 88.13),
    ("EGE-UNet, as published", 0.053, 0.072, 79.81, 88.77),
)


@dataclass(frozen=True)
class WorstImage:
    """An image on which the model errs most, and why that may be."""

    id: str
    jaccard: float
    verdict: str
    traits: ImageTraits


def worst_images(
    evaluation: Evaluation, images: LabelledImages, contract: ModelContract, count: int = 12
) -> list[WorstImage]:
    """The images with the lowest Jaccard index, worst first."""
    scores = jaccard(evaluation.counts)
    loaders = dict(images.items)
    found = []
    for index in scores.argsort(kind="stable")[:count]:
        id = evaluation.ids[index]
        tp, fp, fn, _ = (int(value) for value in evaluation.counts[index])
        measured = traits(*loaders[id](contract.height, contract.width))
        found.append(WorstImage(id, float(scores[index]), verdict(tp, fp, fn), measured))
    return found


def accuracy_page(
    model: str, evaluation: Evaluation, images: LabelledImages, worst: list[WorstImage]
) -> str:
    """The page as Markdown.

    Args:
        model: name of the model's file.
        evaluation: of that model over ``images``.
        images: what it was measured on.
        worst: from :func:`worst_images`.
    """
    found = intervals(evaluation.counts)
    data = f"{evaluation.scores.images} images of {images.name} (split {images.split})"
    lines = [
        f"# Accuracy of {model}",
        "",
        f"{data}; {evaluation.scores.protocol}. Made by `egeunet-evaluate {model} --data DIR "
        "--page FILE`; intervals: 95 %, bootstrap over images, 10,000 resamples.",
        "",
    ]
    if images.name == SYNTHETIC:
        lines += ["**Synthetic images: this says nothing about real ones.**", ""]
    lines += ["| score | % | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {_TITLES[name]} | {_points(one.value)} | {_points(one.low)} to {_points(one.high)} |"
        for name, one in found.items()
    ]
    constant = evaluation.scores.constant_masks
    lines += [f"| masks that are all lesion or all skin | {constant} | |", ""]
    lines += _beside_published(found)
    return "\n".join(lines + _failures(worst, evaluation)) + "\n"


def _beside_published(found: dict[str, Interval]) -> list[str]:
    rows = [
        f"| {name} | {parameters:g} | {flops:g} | {iou:.2f} | {dice:.2f} |"
        for name, parameters, flops, iou, dice in _PUBLISHED
    ]
    ours = f"| **this file** | 0.053 | 0.072 | **{_points(found['iou'].value)}** |"
    return [
        "## Beside the paper's table",
        "",
        "ISIC 2017, from Ruan et al., MICCAI 2023, table 1. The paper's code keeps the checkpoint "
        "that is best on the test images themselves; this file's was chosen on held-out "
        "training images, and the test images decided nothing.",
        "",
        "| network | M parameters | GFLOPs | mIoU | DSC |",
        "|---|---|---|---|---|",
        *rows,
        f"{ours} **{_points(found['dice'].value)}** |",
        "",
    ]


def _failures(worst: list[WorstImage], evaluation: Evaluation) -> list[str]:
    kinds = [kind for image in worst for kind in (image.traits.kinds or ("ordinary",))]
    tally = sorted({kind: kinds.count(kind) for kind in kinds}.items(), key=lambda kv: -kv[1])
    below = float((jaccard(evaluation.counts) < JACCARD_THRESHOLD).mean())
    lines = [
        f"## The {len(worst)} worst images",
        "",
        "Kinds are measured on image and truth (benchmarks/failure_kinds.py), not seen by eye: "
        + ", ".join(f"{kind} {count}" for kind, count in tally)
        + f"; of all images {_points(below)} % "
        f"stay below a Jaccard index of {JACCARD_THRESHOLD}.",
        "",
        "| image | Jaccard | the mask | the image |",
        "|---|---|---|---|",
    ]
    for image in worst:
        said = ", ".join(image.traits.kinds) or "nothing out of the ordinary"
        where = f"{said}; lesion {100 * image.traits.area:.1f} % of the image"
        if image.traits.contrast is not None:
            where += f", contrast {image.traits.contrast:.0f} of 441"
        lines.append(f"| {image.id} | {image.jaccard:.3f} | {image.verdict} | {where} |")
    return lines


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
