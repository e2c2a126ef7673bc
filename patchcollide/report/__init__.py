"""Numbers to pictures and HTML; opens no run and asks no network."""
