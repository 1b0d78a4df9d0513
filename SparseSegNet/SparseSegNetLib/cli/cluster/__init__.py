"""Images and tiles segmented by the workers of a Dask cluster."""
