"""Vision and audio towers of multimodal models: their tensors, which count in the total."""
