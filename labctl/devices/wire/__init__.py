"""Formats that both ends of a wire must agree on: SCPI syntax, records as blocks, our command tables.

Drivers and faces share nothing else; neither imports the other.
"""
