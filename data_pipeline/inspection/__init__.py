"""What `cosface inspect` looks at, part by part; `inspect.py` puts them together."""
