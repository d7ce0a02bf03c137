"""The peers: the same training written by hand in plain JAX and plain PyTorch, with no word of ours."""
