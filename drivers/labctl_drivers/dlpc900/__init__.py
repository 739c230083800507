"""Micromirror devices behind a TI DLPC900 controller, over USB HID."""
