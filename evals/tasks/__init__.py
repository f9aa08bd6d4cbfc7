"""Small lm-eval tasks that need no network: multiple choice (capitals) and generation (word_arithmetic)."""
