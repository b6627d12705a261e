"""Core ML packages (ML programs for iOS 16), written op by op from the deploy form."""

from egeunet.export.coreml.emit import emit_coreml
from egeunet.export.coreml.interpret import run_package

__all__ = ["emit_coreml", "run_package"]
