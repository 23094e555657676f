"""Times a whole model's prefill and decode on the device at hand: `attnbench phases`."""
