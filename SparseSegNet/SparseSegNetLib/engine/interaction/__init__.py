"""During a run: commands, previews, checkpoints, reports, results."""
