"""Arguments of the commands; light, for a command's own imports are loaded when it runs."""
