"""Device, memory, number formats, losses, optimisers, metrics, tensors on disk."""
