"""Pictures in and out: folders, decoding to a square, PNG, tensors, thumbnails, digits."""
