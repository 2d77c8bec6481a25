"""The coverage bench: a zoo of exported networks, run through onnx_scsp and its rivals."""
