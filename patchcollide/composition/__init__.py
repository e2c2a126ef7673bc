"""Neighbours mixed into images by softmax coefficients, or free pixels: what is optimised."""
