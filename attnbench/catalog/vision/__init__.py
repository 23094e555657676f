"""Vision towers of multimodal models: their tensors, which count in the total.

A tower is found like a family, by the `MODEL_TYPES` line of its file; it answers its
tensors and the width of what it hands to the projector.
"""
