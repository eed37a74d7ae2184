"""One run from configuration to result: loading, training loop, checkpoints, lock, shutdown, evaluation."""
