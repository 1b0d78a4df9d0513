"""The client of the engine: starts its process, follows it and installs what it needs."""
