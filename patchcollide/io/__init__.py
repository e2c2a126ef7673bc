"""Files that nobody sees half of: atomic writes, HDF5, NumPy archives, seals, locks, provenance."""
