"""One statistic per small file: pure functions on arrays that say what they computed, how, and from how many."""
