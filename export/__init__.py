"""From weights to files that run on phones: the deploy form, its emitters, its runners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egeunet.export.exporter import export
    from egeunet.export.request import Artifact, ExportRequest

__all__ = ["Artifact", "ExportRequest", "export"]


def __getattr__(name: str) -> Any:
    # On first use: running a model must not need what exporting one does.
    if name == "export":
        from egeunet.export.exporter import export

        return export
    if name in ("Artifact", "ExportRequest"):
        from egeunet.export import request

        return getattr(request, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
