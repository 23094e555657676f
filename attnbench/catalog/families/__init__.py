"""One adapter a model family: `MODEL_TYPES`, and `build(fields) -> ModelSpec`.

A family is found by its file: `catalog` reads the `MODEL_TYPES` line of each, and
imports the one that names the `model_type` at hand. Defaults are those of the
family's configuration class in transformers 5.23, which leaves them out of a nested
`text_config` when it saves one.
"""
