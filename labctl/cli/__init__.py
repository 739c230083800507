"""The command line. Nothing heavy is imported before a command needs it: `labctl --help` stays quick."""

from labctl.cli.app import app, main

__all__ = ["app", "main"]
