"""Panels that are a screen of this computer, and the window that fills it."""
