"""What policies are measured on, one kind a file: rows in, answers or log-probs from the engine, scores out."""
