"""Wire format of the oscillator board on a serial line, for drivers and twins alike.

An open protocol of our own: docs/reference/oscillator-board-protocol.md. `frames` cuts the byte stream,
`messages` is the table of what can be said, `blocks` what is too long for one frame.
"""
