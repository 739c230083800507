"""Devices through slmsuite: any of its classes, or the objects of a set-up script."""
