"""Priors: class probabilities from labels, without training."""
