"""Planned studies: pools × settings × strategies × seeds, from a file, and what they show."""
