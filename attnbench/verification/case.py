"""What a check works on: one variant and backend, at shapes that try it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.measure.inputs import Inputs, make_inputs
from attnbench.measure.plan import Point
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant
from attnbench.variants._protocol import Backend, Params, ParamValue, Variant
from attnbench.verification.finding import NotApplicable, Subject
from attnbench.verification.scene import ALL, Scene, interpreted_scenes
from attnbench.verification.truth import Known, know

if TYPE_CHECKING:
    from torch import Tensor

# Settings under which short sequences try a pattern: with a window of 512 they would not.
_SMALL: Mapping[str, ParamValue] = {
    "window": 9, "stride": 5, "global_tokens": 3, "block": 8, "features": 32, "rank": 16,
    "page_size": 8,
}  # fmt: skip


NO_FEATURES: Params = {}


class Case:
    """One variant and backend on one device: makes its points, inputs and calls."""

    def __init__(self, subject: Subject, device_type: str) -> None:
        self.subject = subject
        self.device = device_type
        if subject.user is not None:
            self.variant: Variant = subject.user.variant()
        else:
            self.variant = load_variant(subject.variant)
        self.backend: Backend = next(b for b in self.variant.backends if b.name == subject.backend)
        self._states: dict[tuple[object, ...], Any] = {}
        self._known: dict[tuple[object, ...], Known] = {}

    @property
    def interpreted(self) -> bool:
        """Whether it runs under an interpreter here, a thousand times slower."""
        return self.device in self.backend.interpreted_on

    @property
    def forward_mode(self) -> Mode:
        """`fwd`, or `decode` of a variant that has that alone."""
        return Mode.FWD if Mode.FWD in self.variant.modes else Mode.DECODE

    def refusal(self, dtype: Dtype, mode: Mode) -> str | None:
        """Why no scene runs in this dtype and mode, or None where one does."""
        if mode not in self.variant.modes:
            return f"{self.variant.name} has no mode {mode}"
        reasons = [self.supports(p) for s in ALL for p in self._candidates(dtype, mode, s)]
        return None if None in reasons else reasons[0]

    def points(
        self,
        dtype: Dtype,
        scenes: tuple[Scene, ...] = ALL,
        *,
        mode: Mode | None = None,
        causal: bool | None = None,
        head_dim: int | None = None,
        features: Params = NO_FEATURES,
        whole: bool = False,
    ) -> list[Point]:
        """The points of `scenes` that the backend supports, in each causal form it has.

        `features` are score features to add to its settings, `head_dim` stands in for the
        scenes' own. Under an interpreter the scenes are those of `interpreted_scenes`.

        Raises:
            NotApplicable: there is none; the reason is the backend's own.
        """
        mode = mode or self.forward_mode
        if mode not in self.variant.modes:
            raise NotApplicable(f"{self.variant.name} has no mode {mode}")
        if self.interpreted:
            scenes = interpreted_scenes(scenes, dtype, whole=whole)
        found: dict[object, Point] = {}
        reason = "no scene has this form"
        for scene in scenes:
            for point in self._candidates(dtype, mode, scene, head_dim):
                if causal is not None and point.shape.causal is not causal:
                    continue
                point = msgspec.structs.replace(point, params={**point.params, **features})
                refused = self.supports(point)
                if refused is None:
                    found[point.key] = point
                reason = refused or reason
        if not found:
            raise NotApplicable(reason)
        return list(found.values())

    def _candidates(
        self, dtype: Dtype, mode: Mode, scene: Scene, head_dim: int | None = None
    ) -> Iterator[Point]:
        for causal in sorted(self.variant.causal_forms):
            shape = AttentionShape(
                batch=scene.batch, heads=scene.heads, kv_heads=scene.kv_heads,
                seq_q=1 if mode is Mode.DECODE else scene.seq_q, seq_kv=scene.seq_kv,
                head_dim=head_dim or scene.head_dim, causal=causal, dtype=dtype,
            )  # fmt: skip
            yield Point(
                variant=self.variant.name,
                backend=self.backend.name,
                mode=mode,
                shape=shape,
                params=self.variant.resolve(shape, self._settings(scene)),
                user=self.subject.user,
            )

    def _settings(self, scene: Scene) -> Params:
        """Small settings where the scene asks for them; a user's kernel has but its own."""
        own = self.variant.defaults
        if not scene.small or self.subject.user is not None:
            return own
        return {**own, **{key: value for key, value in _SMALL.items() if key in own}}

    def supports(self, point: Point) -> str | None:
        """Why the backend cannot run a point here, or None."""
        return self.backend.supports(point.shape, point.mode, point.params, self.device)

    def inputs(self, point: Point) -> Inputs:
        """The seeded inputs of a point, on the device."""
        return make_inputs(point.shape, point.mode, self.device)

    def known(self, point: Point) -> Known:
        """What float64 says of a point on its seeded inputs, whatever the mode."""
        key = msgspec.structs.replace(point, mode=self.forward_mode).key
        if key not in self._known:
            deepest = Mode.FWD_BWD if Mode.FWD_BWD in self.variant.modes else self.forward_mode
            self._known[key] = know(point, make_inputs(point.shape, deepest, self.device))
        return self._known[key]

    def forward(self, point: Point, query: "Tensor", key: "Tensor", value: "Tensor") -> "Tensor":
        """The backend's output, with no gradient; preparation is done once a point."""
        import torch

        with torch.no_grad():
            return self.backend.forward(query, key, value, self.state(point))

    def state(self, point: Point) -> Any:
        """What the backend prepares for a point, made once."""
        if point.key not in self._states:
            self._states[point.key] = self.prepare(point)
        return self._states[point.key]

    def prepare(self, point: Point) -> Any:
        """What the backend prepares for a point, made anew."""
        return self.backend.prepare(point.shape, point.params, self.device)


def place(point: Point) -> str:
    """Where a reading was taken: the shape, and settings where there are any."""
    settings = {k: v for k, v in point.params.items() if k != "computes"}
    shown = " ".join(f"{key}={value}" for key, value in settings.items())
    return f"{point.shape.label} {shown}".rstrip()
