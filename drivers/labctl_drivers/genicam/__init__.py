"""Cameras that describe themselves by GenICam: one logic by standard names, several ways to reach them."""
