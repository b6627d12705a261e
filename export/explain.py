"""Where the bytes of an exported file are, and which operators it holds.

Every kind of byte is counted once and the kinds add up to the size on disk exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from egeunet.model.errors import EgeunetError, InputError, needs_extra

#: Bytes by kind, and operators by type.
Found = tuple[dict[str, int], dict[str, int]]


def explain(path: str | Path) -> dict[str, Any]:
    """Explain a .tflite file, an .onnx file or a .mlpackage folder.

    Returns:
        ``bytes`` (of the file, or of all files of a package), ``bytes_by_kind`` (kinds of
        no byte are left out; they add up to ``bytes``), ``operators`` (number by type).

    Raises:
        InputError: absent, damaged, or of another suffix.
        MissingExtraError: the format's package is not installed.
    """
    path = Path(path)
    if not explainable(path):
        raise InputError(
            f"{path}: no explanation of {path.suffix or 'a file without suffix'!r}; "
            f"known: {', '.join(sorted(_EXPLAINERS))}"
        )
    if not path.exists():
        raise InputError(f"{path}: not found; give the path of an exported file")
    try:
        kinds, operators = _EXPLAINERS[path.suffix](path)
    except EgeunetError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # the parsers raise whatever damaged bytes provoke
        message = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{path}: damaged file ({message}); export it again") from error
    given = {kind: size for kind, size in kinds.items() if size}
    return {"bytes": sum(given.values()), "bytes_by_kind": given, "operators": operators}


def explainable(path: Path) -> bool:
    """Whether :func:`explain` knows the suffix."""
    return path.suffix in _EXPLAINERS


def explanation_of(path: Path) -> str:
    """What ``--explain`` prints: the table of a file, or that there is none for its suffix."""
    if not explainable(path):
        return f"  no explanation of {path.suffix} files"
    return "\n".join(explanation_lines(explain(path)))


def explanation_lines(explained: dict[str, Any]) -> list[str]:
    """Bytes by kind and operators by type as a table, largest first."""
    total = explained["bytes"]
    by_size = sorted(explained["bytes_by_kind"].items(), key=lambda item: -item[1])
    lines = [f"  {kind:16} {size:10,} bytes {size / total:6.1%}" for kind, size in by_size]
    lines.append(f"  {'total':16} {total:10,} bytes")
    by_count = sorted(explained["operators"].items(), key=lambda item: (-item[1], item[0]))
    lines += [f"  {kind:24} {count:5}" for kind, count in by_count]
    count = sum(explained["operators"].values())
    return [*lines, f"  {'all operators':24} {count:5}"]


def _tflite(path: Path) -> Found:
    with needs_extra("tflite"):
        from egeunet.export.tflite.explain import explain_tflite
    return explain_tflite(path.read_bytes())


def _onnx(path: Path) -> Found:
    with needs_extra("onnx"):
        from egeunet.export.onnx.explain import explain_onnx
    return explain_onnx(path.read_bytes())


def _coreml(path: Path) -> Found:
    """By file: the program's text, the weights beside it, the list of both."""
    with needs_extra("coreml"):
        from egeunet.export.coreml.package import Package
    kinds = {".mlmodel": "program", ".bin": "weights", ".json": "manifest"}
    sizes: Counter[str] = Counter()
    for file in path.rglob("*"):
        if file.is_file():
            sizes[kinds.get(file.suffix, "other")] += file.stat().st_size
    types = Counter(str(operation.type) for operation in Package(path).operations())
    del types["const"]  # a constant's name and place, no work at run time
    return dict(sorted(sizes.items())), dict(sorted(types.items()))


_EXPLAINERS: dict[str, Callable[[Path], Found]] = {
    ".tflite": _tflite,
    ".onnx": _onnx,
    ".mlpackage": _coreml,
}
