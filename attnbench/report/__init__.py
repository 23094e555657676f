"""One small file a format; renders, computes nothing."""
