"""Published rules that add a term to the loss."""
