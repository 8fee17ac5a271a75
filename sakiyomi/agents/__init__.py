"""Learning to act: one algorithm a file, on vectorised worlds."""
