"""Labelling campaigns: ask, show, record, learn, and ask again, with every answer safe."""
