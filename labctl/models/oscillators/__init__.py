"""Generators made of oscillators: what they are, how they are trained, and what stands beside them."""
