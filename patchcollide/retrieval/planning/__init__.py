"""What a search will cost on this machine, before it runs."""
