"""Time, memory and disk that a matrix will take."""
