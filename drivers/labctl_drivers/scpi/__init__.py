"""Drivers of SCPI instruments, over any VISA resource: sockets, HiSLIP, USB, serial ports."""
