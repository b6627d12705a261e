"""The result of a fine-tuning on disk: the trained constants of a static graph, and in the
same file as JSON how the graph is built and what its int8 scales are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph
from egeunet.model.atomic import write_bytes
from egeunet.model.config import EGEUNetConfig
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.quantize.calibration import Calibration
from egeunet.quantize.static_form import StaticForm
from egeunet.quantize.static_graph import StaticGraph, build_static_graph, static_names
from egeunet.quantize.static_norms import StaticNorm, replace_module

SCHEMA_VERSION = 1
_KIND = "egeunet static int8 recipe"


@dataclass(frozen=True)
class StaticRecipe:
    """A fine-tuned integer network.

    Attributes:
        constants: value name -> float32 array, of the graph that ``config``, ``contract``
            and ``form`` give.
        config: of the reference.
        contract: at the size the graph is for.
        form: of the graph.
        calibration: the trained bounds of every activation.
        details: what is known about the fine-tuning (plan, validation), JSON-ready.
    """

    constants: dict[str, NDArray[np.float32]]
    config: EGEUNetConfig
    contract: ModelContract
    form: StaticForm
    calibration: Calibration
    details: dict[str, Any]

    def graph(self) -> Graph:
        """The float graph with the trained constants; raises as :meth:`static`."""
        return self.static().graph

    def static(self) -> StaticGraph:
        """The float graph with the trained constants, and its places.

        Raises:
            InputError: made by another version of this package, or constants are missing,
                unknown, misshapen or not finite.
        """
        static = empty_static_graph(self.config, self.contract, self.form)
        graph = static.graph
        if graph.structure_sha256() != self.calibration.graph_sha256:
            raise InputError(
                "a recipe of another version of egeunet-mobile, whose graph differs; "
                "run egeunet-quantize finetune again"
            )
        expected = {value.name: value for value in graph.constants()}
        missing = sorted(expected.keys() - self.constants.keys())
        unknown = sorted(self.constants.keys() - expected.keys())
        if missing or unknown:
            raise InputError(
                f"{len(missing)} constants missing {missing[:3]}, "
                f"{len(unknown)} unknown {unknown[:3]}"
            )
        values = dict(graph.values)
        for name, value in expected.items():
            data = self.constants[name]
            if data.shape != value.shape or not np.isfinite(data).all():
                raise InputError(
                    f"constant {name} must be finite of shape {value.shape}, got {data.shape}"
                )
            values[name] = replace(value, data=data.astype(np.float32))
        return replace(static, graph=Graph(graph.input, graph.output, graph.nodes, values))

    def save(self, path: Path) -> None:
        """Write ``path`` (.safetensors), whole or not at all."""
        from safetensors.numpy import save

        text = {
            "kind": _KIND,
            "schema_version": SCHEMA_VERSION,
            "config": self.config.to_dict(),
            "contract": self.contract.to_dict(),
            "form": self.form.to_dict(),
            "calibration": self.calibration.to_dict(),
            "details": self.details,
        }
        # One entry: safetensors writes several in an order that changes from run to run.
        write_bytes(path, save(self.constants, {"recipe": json.dumps(text)}))

    @classmethod
    def load(cls, path: Path) -> StaticRecipe:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                constants = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                values = json.loads((file.metadata() or {})["recipe"])
            if (values["kind"], values["schema_version"]) != (_KIND, SCHEMA_VERSION):
                raise InputError(f"kind {values['kind']!r}, version {values['schema_version']!r}")
            return cls(
                constants,
                EGEUNetConfig.from_dict(values["config"]),
                ModelContract.from_dict(values["contract"]),
                StaticForm(**values["form"]),
                Calibration.from_dict(values["calibration"]),
                dict(values["details"]),
            )
        except (
            SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, InputError,
        ) as error:  # fmt: skip
            reason = re.sub(r"\s+", " ", str(error))
            raise InputError(f"{path}: not a recipe of egeunet-quantize ({reason})") from error


def empty_static_graph(
    config: EGEUNetConfig, contract: ModelContract, form: StaticForm
) -> StaticGraph:
    """The graph of a network of that configuration and form; its constants say nothing."""
    model = EGEUNet(config).eval()
    for name in static_names(model, form):
        channels = len(model.get_parameter(f"{name}.weight"))
        replace_module(model, name, StaticNorm(channels).eval())
    return build_static_graph(model, contract, form)
