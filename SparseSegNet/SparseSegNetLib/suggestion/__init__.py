"""Suggestions of the next slice to draw, from what is drawn and what is predicted."""
