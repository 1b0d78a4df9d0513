"""Stacking: priors and a shallow model as an ensemble, out of fold."""
