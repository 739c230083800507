"""Which physical fault a morning's probes speak for: an examination, what it says, and what to do."""
