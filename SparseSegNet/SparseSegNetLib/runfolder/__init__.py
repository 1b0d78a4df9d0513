"""The run folder: the files that client and engine share, and their protocol."""
