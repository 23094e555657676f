"""Profiles as data: models, hardware and sweeps, one YAML file a thing."""
