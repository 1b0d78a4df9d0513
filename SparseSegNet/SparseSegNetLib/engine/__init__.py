"""The engine: trains on a run folder and predicts, in a process of its own."""
