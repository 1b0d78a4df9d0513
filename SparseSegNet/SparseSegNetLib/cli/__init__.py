"""The command line ``sparsesegnet``."""
