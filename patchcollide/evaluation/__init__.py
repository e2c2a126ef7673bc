"""What lies between vertices: weights, samples, gaps, claims, visibility, transfer."""
