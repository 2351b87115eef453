"""What `cosface inspect` looks at, part by part; `data_pipeline/inspect.py` puts them together."""
