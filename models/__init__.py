"""The denoising networks: their torch form, training, ONNX export, evaluation, and the exported graphs themselves."""
