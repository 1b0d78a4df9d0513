"""Dense prediction, what is made of it, and the model file."""
