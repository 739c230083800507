"""SCPI instruments in front of a world: parser and status model, sockets and HiSLIP, one face a device."""
