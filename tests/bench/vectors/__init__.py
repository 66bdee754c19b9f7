"""`make bench-vectors`: vector search and adding, as ratios to USearch in process."""
