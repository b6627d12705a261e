"""Which operators of a partition XNNPACK's runs belong to, told by kernels and order.

XNNPACK runs its operators in the order of the graph. It leaves some out (a square before a
mean, a DEQUANTIZE before an RSQRT that becomes a table) and runs some in pieces (a SPLIT is
a copy for each output). So the two lists are aligned: every run goes to an operator that
such a kernel can belong to, in order, and as few operators as possible go without.
"""

from __future__ import annotations

import re

from egeunet.benchmarks.arm64.plan import Operator

#: A run that no operator can have had is worth any number of operators left out.
_STRAY = 10_000
_COPY = r"copy|memcpy"
_COPY_OR_NOTHING = rf"^$|{_COPY}"  # in place: XNNPACK runs it all the same
#: A ReLU that an operator of the file has and its float kernel has not: a run of its own behind.
_CLAMP = re.compile(r"^\S*_vclamp_\S*$")
#: Operator -> names of XNNPACK's microkernels that compute it; LUT: 8-bit tables.
_KERNELS = {
    "CONV_2D": r"gemm|conv_hwc|vmulcaddc|dwconv",
    "DEPTHWISE_CONV_2D": r"dwconv|vmulcaddc",
    "TRANSPOSE_CONV": r"gemm",
    "FULLY_CONNECTED": r"gemm|gemv",
    "BATCH_MATMUL": r"gemm",
    "MAX_POOL_2D": r"maxpool",
    "AVERAGE_POOL_2D": r"avgpool|rd?sum",
    "MEAN": r"avgpool|rd?sum",
    "SUM": r"rd?sum",
    "RESIZE_BILINEAR": r"ibilinear",
    "ADD": r"vaddc?_",
    "SUB": r"v(r?sub|add)c?_",  # int8: an addition with a negative factor
    "MUL": r"v(mulc?|sqr)_|lut",  # by itself: a square
    "DIV": r"vr?divc?_",
    "MAXIMUM": r"vmaxc?_|lut",
    "MINIMUM": r"vminc?_|lut",
    "SQUARED_DIFFERENCE": r"vr?sqrdiffc?_",
    "PRELU": r"prelu",
    "QUANTIZE": r"vcvt|lut",
    "DEQUANTIZE": r"vcvt",
    "GELU": r"vgelu|lut",
    "LOGISTIC": r"vsigmoid|lut",
    "RSQRT": r"vrsqrt|lut",
    "SQRT": r"vsqrt|lut",
    "SQUARE": r"vsqr_|lut",
    "TANH": r"vtanh|lut",
    "EXP": r"vexp|lut",
    "ABS": r"vabs|lut",
    "NEG": r"vneg|lut",
    "TRANSPOSE": rf"transpose|{_COPY}",
    "PAD": rf"pad|fill|{_COPY}",
    "SPLIT": _COPY,
    "CONCATENATION": _COPY,
    "SLICE": _COPY,
    "STRIDED_SLICE": _COPY,
    "RESHAPE": _COPY_OR_NOTHING,
    "EXPAND_DIMS": _COPY_OR_NOTHING,
    "SQUEEZE": _COPY_OR_NOTHING,
}


def kernels_in(functions: list[str]) -> str:
    """The microkernels among the functions of one run; the copy if it has no other."""
    names = [name for name in functions if "ukernel" in name and "copy" not in name]
    return " ".join(names or [name for name in functions if re.search(_COPY, name)])


def assign(runs: list[str], operators: tuple[Operator, ...]) -> list[int | None]:
    """Align runs with operators.

    Args:
        runs: :func:`kernels_in` of each run, in order.
        operators: of the partition, in order.

    Returns:
        For each run the index into ``operators``, None where none fits.
    """
    fits: dict[tuple[str, str], bool] = {}
    for kind in {operator.kind for operator in operators}:
        pattern = re.compile(_KERNELS.get(kind, kind.lower().replace("_", "")))
        fits |= {(kind, run): bool(pattern.search(run)) for run in set(runs)}

    def takes(operator: Operator, at: int) -> int:
        """How many runs from ``at`` are this operator's, 0 if they cannot be."""
        end = at + _pieces(operator)
        if end > len(runs) or not all(fits[operator.kind, run] for run in runs[at:end]):
            return 0
        clamped = end < len(runs) and _CLAMP.search(runs[end])
        return end - at + bool(clamped)

    # cost[i][j]: the best for operators i.. and runs j.. ; filled from the end.
    rows, columns = len(operators), len(runs)
    cost = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            ways = []
            if i < rows:
                ways.append(cost[i + 1][j] + 1)
                if taken := takes(operators[i], j):
                    ways.append(cost[i + 1][j + taken])
            if j < columns:
                ways.append(cost[i][j + 1] + _STRAY)
            cost[i][j] = min(ways, default=0)
    assigned: list[int | None] = []
    i = j = 0
    while j < columns:
        taken = takes(operators[i], j) if i < rows else 0
        if taken and cost[i][j] == cost[i + 1][j + taken]:
            assigned += [i] * taken
            i, j = i + 1, j + taken
        elif i < rows and cost[i][j] == cost[i + 1][j] + 1:
            i += 1
        else:
            assigned.append(None)
            j += 1
    return assigned


def _pieces(operator: Operator) -> int:
    if operator.kind == "SPLIT":
        return len(operator.outputs)
    return len(operator.inputs) if operator.kind == "CONCATENATION" else 1
