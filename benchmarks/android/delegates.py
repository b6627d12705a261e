"""What can execute a model on a phone, and whether it did.

benchmark_model ends well and prints a latency even where the accelerator that was asked
for is absent or declines the graph: the CPU ran it. Nothing counts as an accelerator's
time unless the output says that it took nodes of the graph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CPU = "cpu"


@dataclass(frozen=True)
class Delegate:
    """One way to execute.

    Attributes:
        title: for people.
        flag: of benchmark_model.
        pattern: matches the names it has in benchmark_model's messages.
    """

    title: str
    flag: str
    pattern: str


DELEGATES = {
    CPU: Delegate("CPU (XNNPACK)", "--use_xnnpack=true", r"XNNPACK|TfLiteXNNPackDelegate"),
    "gpu": Delegate("GPU delegate", "--use_gpu=true", r"GPU|TfLiteGpuDelegate\w*|LITERT_CL\w*"),
    "nnapi": Delegate("NNAPI", "--use_nnapi=true", r"NNAPI|TfLiteNnapiDelegate"),
}


@dataclass(frozen=True)
class Applied:
    """What an output says of the delegate that was asked for.

    Attributes:
        share: ``all``, ``part`` or ``none`` of the graph; None = it does not say.
        nodes: (taken, all) nodes of the graph, if printed.
        reason: for ``none`` and None, in words.
    """

    share: str | None
    nodes: tuple[int, int] | None = None
    reason: str = ""


def applied(name: str, output: str) -> Applied:
    """Read from benchmark_model's output whether delegate ``name`` executed the graph."""
    delegate = DELEGATES[name]
    flag = delegate.flag.partition("=")[0]
    for line in output.splitlines():
        if "Unconsumed cmdline flags" in line and flag in line:
            return Applied("none", reason=f"this benchmark_model does not know {flag}")
    who = rf"(?:{delegate.pattern})"
    nodes = _nodes(who, output)
    if re.search(rf"{who}.{{0,40}}unsupported on this platform", output):
        return Applied("none", reason=f"the phone has no {delegate.title}")
    accelerators = re.search(r"NNAPI accelerators available: \[(.*?)\]", output)
    if name == "nnapi" and accelerators and _only_reference(accelerators[1]):
        return Applied("none", reason="the phone offers NNAPI no accelerator, only its CPU code")
    if re.search(rf"Though {who} delegate is", output):
        return Applied("none", nodes, f"{delegate.title} declined the graph; the CPU ran it")
    said = re.search(rf"pplied {who} delegate(?:, and the model graph will be (\w+))?", output)
    if said and said[1]:
        return Applied("all" if said[1] == "completely" else "part", nodes)
    if nodes and nodes[0]:
        return Applied("all" if nodes[0] == nodes[1] else "part", nodes)
    return Applied(None, nodes, f"the output does not say that {delegate.title} took the graph")


def unknown_flags(output: str) -> tuple[str, ...]:
    """Flags that benchmark_model says it ignored."""
    found = re.search(r"Unconsumed cmdline flags:(.*)", output)
    return tuple(re.findall(r"--\w+", found[1])) if found else ()


def _nodes(who: str, output: str) -> tuple[int, int] | None:
    """Nodes taken and nodes of the graph; a graph without subgraphs prints one line."""
    found = re.search(rf"Replacing (\d+) out of (\d+) node\(s\) with delegate \({who}\)", output)
    return (int(found[1]), int(found[2])) if found else None


def _only_reference(names: str) -> bool:
    return not set(filter(None, names.replace(" ", "").split(","))) - {"nnapi-reference"}
