"""Published rules that weight the pairs' losses."""
