"""The training run: settings, loop, engines, checkpoints, evaluation."""
