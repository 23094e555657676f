"""What takes the place of a GPU's driver before a kernel is compiled for it."""

from typing import Any


def stand_in(target: str) -> None:
    """Have Triton, and torch where a file asks it at load, take `target` for the GPU here.

    For a child process: nothing takes it back.
    """
    import torch
    import triton

    driver: Any = _StubDriver(target)
    triton.runtime.driver.set_active(driver)
    capability = (9, 4) if target.startswith("gfx9") else divmod(_number(target), 10)
    torch.cuda.get_device_capability = lambda device=None: capability


def _number(target: str) -> int:
    return int(target[3:5], 16) if target.startswith("gfx") else int(target.removeprefix("sm_"))


class _StubDriver:
    """Answers what Triton asks of a driver before it compiles; it can launch nothing."""

    def __init__(self, target: str) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        if self.target.startswith("gfx"):
            return GPUTarget("hip", self.target, 64 if self.target.startswith("gfx9") else 32)
        return GPUTarget("cuda", _number(self.target), 32)

    def get_current_device(self) -> str:
        return self.target  # a device of its own a target: Triton caches by it

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")
