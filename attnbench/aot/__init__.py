"""What the compiler makes of a Triton kernel for a GPU that is not here."""
