"""What a .tflite file says about itself: the contract, and the standard description.

The description follows TensorFlow Lite's metadata schema, so that MediaPipe Tasks'
ImageSegmenter takes the file as it is. It is a flatbuffer of its own in a buffer of
the model, found by the name of its metadata entry.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from egeunet.export.runners.tflite_metadata import CONTRACT_ENTRY
from egeunet.export.tflite.metadata_schema import Table, encode
from egeunet.model.contract import ModelContract

#: The one of the standard description, and its file identifier.
STANDARD_ENTRY, STANDARD_IDENTIFIER = "TFLITE_METADATA", b"M001"
#: MediaPipe looks for the activation under this name in the description's custom data.
SEGMENTER_ENTRY, SEGMENTER_IDENTIFIER = "SEGMENTER_METADATA", b"V001"
#: The version that brought custom metadata.
_MIN_PARSER_VERSION = "1.5.0"

_CONTENT_IMAGE = np.uint8(2)  # union ContentProperties: ImageProperties
_NORMALIZATION = np.uint8(1)  # union ProcessUnitOptions: NormalizationOptions
_RGB, _GRAYSCALE = np.int8(1), np.int8(2)  # ColorSpaceType


def metadata_entries(contract: ModelContract, metadata: str) -> dict[str, bytes]:
    """The metadata entries of a file by name, in the order of writing.

    Args:
        metadata: ``none``, ``contract`` (ours only) or ``full`` (ours and the standard's).
    """
    entries = {}
    if metadata != "none":
        text = json.dumps(contract.to_dict(), separators=(",", ":"))
        entries[CONTRACT_ENTRY] = text.encode()
    if metadata == "full":
        entries[STANDARD_ENTRY] = segmenter_metadata(contract)
    return entries


def segmenter_metadata(contract: ModelContract) -> bytes:
    """The standard's description of an image segmenter with one mask, the lesion's.

    The input takes (pixel - mean) / std, here pixel / 255. The schema wants a quantized
    input described by the same numbers: its scale turns the result into pixels again. The
    output is a probability already, so the activation that is left to do is none. There is
    no label file: it would have to be appended to the model as a zip archive, and the one
    class is found by the output's name.

    Args:
        contract: with normalization ``unit``; the schema has no min-max of an image.
    """
    if contract.normalization != "unit":
        raise ValueError(f"the schema cannot describe normalization {contract.normalization!r}")
    size = {"width": np.uint32(contract.width), "height": np.uint32(contract.height)}
    normalization = Table("NormalizationOptions", {"mean": (0.0,), "std": (255.0,)})
    unit = Table("ProcessUnit", {"options_type": _NORMALIZATION, "options": normalization})
    source = {
        "name": "image",
        "content": _image({"color_space": _RGB, "default_size": Table("ImageSize", size)}),
        "process_units": (unit,),
    }
    # Axes 1 and 2 are the picture's; axis 3 counts the masks.
    axes = Table("ValueRange", {"min": np.int32(1), "max": np.int32(2)})
    result = {
        "name": "lesion",
        "description": f"{contract.output}, threshold {contract.threshold:g}",
        "content": _image({"color_space": _GRAYSCALE}, range=axes),
    }
    # Activation 0 (NONE) is the field's default, which a flatbuffer leaves out.
    activation = encode(Table("ImageSegmenterOptions", {}), SEGMENTER_IDENTIFIER)
    custom = Table("CustomMetadata", {"name": SEGMENTER_ENTRY, "data": activation})
    subgraph = {
        "input_tensor_metadata": (Table("TensorMetadata", source),),
        "output_tensor_metadata": (Table("TensorMetadata", result),),
        "custom_metadata": (custom,),
    }
    model = {
        "name": "EGE-UNet",
        "description": "Skin lesion segmentation",
        "subgraph_metadata": (Table("SubGraphMetadata", subgraph),),
        "min_parser_version": _MIN_PARSER_VERSION,
    }
    return encode(Table("ModelMetadata", model), STANDARD_IDENTIFIER)


def _image(properties: dict[str, Any], **more: Table) -> Table:
    """The content of a tensor that holds pixels."""
    content = Table("ImageProperties", properties)
    fields = {"content_properties_type": _CONTENT_IMAGE, "content_properties": content, **more}
    return Table("Content", fields)
