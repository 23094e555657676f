"""Typed, checked access to the fields of a configuration.

A family reads sizes by one canonical name; `ALIASES` holds the others that
published configurations use for it. Every complaint names file and key.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from attnbench.errors import UserError

T = TypeVar("T")

MAX_SIZE = 1 << 31  # over any width, vocabulary or length that has been published
MAX_LAYERS = 10_000
MAX_ITEMS = 100_000

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim", "embed_dim", "n_embed"),
    "num_hidden_layers": ("n_layer", "num_layers", "n_layers", "num_transformer_layers"),
    "num_attention_heads": ("n_head", "num_heads", "n_heads"),
    "num_key_value_heads": ("n_head_kv", "num_kv_heads", "n_kv_heads", "multi_query_group_num"),
    "intermediate_size": ("n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "ffn_hidden_dim"),
    "head_dim": ("kv_channels", "attention_head_dim", "qkv_channels"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "vocab_size": ("padded_vocab_size",),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("moe_top_k", "moe_k", "top_k_experts", "num_experts_per_token"),
}
CORE: Final = frozenset(
    ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
)


class Fields:
    """One mapping of a configuration: its own values, then the family's `defaults`.

    transformers writes only what differs from a class's defaults into a nested
    `text_config`, so a nested mapping may lean on them for everything; at the top
    level the sizes in `CORE` must stand in the file itself.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        label: str,
        name: str = "",
        path: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.data = data
        self.label = label
        self.name = name or label
        self.path = path
        self.defaults: Mapping[str, Any] = defaults or {}

    def with_defaults(self, defaults: Mapping[str, Any]) -> "Fields":
        """The same fields, over another class's defaults."""
        return Fields(
            self.data, label=self.label, name=self.name, path=self.path, defaults=defaults
        )

    def also(self, **values: Any) -> "Fields":
        """The same fields with `values` besides, in place of the file's own."""
        return Fields(
            {**self.data, **values},
            label=self.label,
            name=self.name,
            path=self.path,
            defaults=self.defaults,
        )

    def error(self, key: str, problem: str, hint: str | None = None) -> UserError:
        """A complaint about `key` of this file."""
        return UserError(f"{self.label}: {self.path}{key}: {problem}", hint=hint)

    def has(self, key: str) -> bool:
        """Whether the file itself states `key` (under any of its names), not as null."""
        return self._own(key) is not None

    def states(self, key: str) -> bool:
        """Whether the file itself has `key`, be it null."""
        return any(name in self.data for name in (key, *ALIASES.get(key, ())))

    def get(self, key: str, default: Any = None) -> Any:
        """The raw value of `key`, null counting as absent."""
        value = self._own(key)
        if value is not None:
            return value
        if key in self.defaults and (self.path or key not in CORE):
            value = self.defaults[key]
        return default if value is None else value

    def require(self, *keys: str) -> None:
        """See that each of `keys` has a value.

        Raises:
            UserError: some have none; it names them all.
        """
        missing = [f"{self.path}{key}" for key in keys if self.get(key) is None]
        if missing:
            raise UserError(
                f"{self.label}: missing {', '.join(missing)}",
                hint="A config.json as published with the model states them.",
            )

    def integer(
        self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_SIZE
    ) -> int:
        """The whole number at `key`, from `low` to `high`.

        Raises:
            UserError: it is missing and there is no `default`, or is no such number.
        """
        value = self.get(key, default)
        if value is None:
            self.require(key)
        return self._checked(key, value, low, high)

    def maybe(self, key: str, *, low: int = 1, high: int = MAX_SIZE) -> int | None:
        """The whole number at `key`; None where it is null, or absent with no default."""
        if self.states(key) and self._own(key) is None:
            return None
        value = self.get(key)
        return None if value is None else self._checked(key, value, low, high)

    def number(self, key: str, default: float) -> float:
        """The number at `key`, finite and over 0.

        Raises:
            UserError: it is no such number.
        """
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise self.error(key, f"{_short(value)} is not a number over 0")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """The true or false at `key`.

        Raises:
            UserError: it is neither.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"{_short(value)} is neither true nor false")
        return value

    def text(self, key: str, default: str = "") -> str:
        """The text at `key`.

        Raises:
            UserError: it is no text.
        """
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"{_short(value)} is not text")
        return value

    def integers(self, key: str, *, length: int | None = None, low: int = 0) -> tuple[int, ...]:
        """The list of whole numbers at `key`, `length` of them; a lone number stands for all.

        Raises:
            UserError: it is no such list, or its length is not `length`.
        """
        value = self.get(key)
        if length is not None and isinstance(value, int) and not isinstance(value, bool):
            value = [value] * length
        return tuple(
            self._checked(key, item, low, MAX_SIZE) for item in self.items(key, value, length)
        )

    def texts(self, key: str, *, length: int | None = None) -> tuple[str, ...] | None:
        """The list of texts at `key`, or None where there is none.

        Raises:
            UserError: it is no such list, or its length is not `length`.
        """
        value = self.get(key)
        if value is None:
            return None
        items = self.items(key, value, length)
        if not all(isinstance(item, str) for item in items):
            raise self.error(key, "is not a list of texts")
        return tuple(items)

    def items(self, key: str, value: Any, length: int | None) -> Sequence[Any]:
        """`value` as the list it must be, `length` long.

        Raises:
            UserError: it is no list, or has another length.
        """
        if not isinstance(value, list | tuple):
            raise self.error(key, f"{_short(value)} is not a list")
        if len(value) > MAX_ITEMS:
            raise self.error(key, f"has {len(value)} items; {MAX_ITEMS} is the most")
        if length is not None and len(value) != length:
            raise self.error(key, f"has {len(value)} items, and there are {length} layers")
        return value

    def child(self, key: str) -> "Fields | None":
        """The mapping at `key`, or None where there is none.

        Raises:
            UserError: there is something else.
        """
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(key, f"{_short(value)} is not a mapping")
        return Fields(value, label=self.label, name=self.name, path=f"{self.path}{key}.")

    def layers(self, key: str = "num_hidden_layers", default: int | None = None) -> int:
        """The number of layers at `key`."""
        return self.integer(key, default, high=MAX_LAYERS)

    def divided(self, whole_key: str, whole: int, parts_key: str, parts: int) -> int:
        """`whole` / `parts`, which must come out even.

        Raises:
            UserError: it does not.
        """
        if whole % parts:
            raise self.error(parts_key, f"{parts} does not divide {whole_key} {whole}")
        return whole // parts

    def _own(self, key: str) -> Any:
        value = self.data.get(key)
        if value is None:
            for alias in ALIASES.get(key, ()):
                value = self.data.get(alias)
                if value is not None:
                    break
        return value

    def _checked(self, key: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"{_short(value)} is not a whole number")
        if not low <= value <= high:
            raise self.error(key, f"{_short(value)} is not between {low} and {high}")
        return value


def _short(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of about 10^{int(value.bit_length() * 0.30103)}"
    text = repr(value) if not isinstance(value, Mapping | list) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."
