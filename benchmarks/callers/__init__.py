"""Many callers of one engine, in threads and tasks, beside other ways to serve them."""
