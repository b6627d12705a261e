"""ONNX files, written node by node from the deploy form, channels first."""

from egeunet.export.onnx.emit import emit_onnx

__all__ = ["emit_onnx"]
