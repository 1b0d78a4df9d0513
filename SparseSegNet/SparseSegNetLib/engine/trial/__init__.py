"""Trial of the engine on a device, with a small volume."""
