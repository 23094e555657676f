"""Fits the roofline's constants to measured timings, scores them, and writes them down."""
