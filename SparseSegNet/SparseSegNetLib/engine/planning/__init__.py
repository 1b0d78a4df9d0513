"""The plan of a run, from its data, options, memory and time."""
