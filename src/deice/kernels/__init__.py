"""Fast operations: each with its contract and plain PyTorch first, its CUDA twin beside it."""
