"""The patch store and its index on disk: write, extend, read, verify, repair, export."""
