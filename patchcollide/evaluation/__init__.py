"""What lies between vertices: weights, samples, gaps, certificates, visibility, transfer."""
