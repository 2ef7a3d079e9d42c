"""The networks in torch and as ONNX graphs, and what their training minimises."""
