"""Pools of any size through an engine: parts, workers, shards, races."""
