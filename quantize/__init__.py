"""int8: calibration and full-integer quantization of the deploy form."""
