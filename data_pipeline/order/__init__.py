"""Which image comes when, on which rank, for any number of ranks."""
