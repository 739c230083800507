"""Cameras that describe themselves by GenICam: one driver's logic by standard names, three ways to reach them."""
