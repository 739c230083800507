"""Micromirror devices behind a ViALUX ALP controller, by the vendor's own library."""
