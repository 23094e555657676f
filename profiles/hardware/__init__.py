"""YAML files, one a thing."""
