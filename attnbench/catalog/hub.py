"""The `config.json` of a hub id: the local cache first, then the network."""

from pathlib import Path

from attnbench.errors import UserError


def config_file(hub_id: str) -> Path:
    """The path of the cached `config.json` of `hub_id`, fetched where it is not there yet.

    Raises:
        UserError: it is in no cache and cannot be fetched; the text says which.
    """
    import huggingface_hub
    from huggingface_hub import errors

    cached = huggingface_hub.try_to_load_from_cache(hub_id, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    hint = "Give a path to its config.json, or the name of a profile (`attnbench models`)."
    try:
        return Path(huggingface_hub.hf_hub_download(hub_id, "config.json"))
    except errors.GatedRepoError:
        problem = "the repository is gated: it asks for a login and its owner's consent"
    except errors.RepositoryNotFoundError:
        problem = "no such model on the hub"
    except errors.EntryNotFoundError as error:
        problem = (
            "it is not in the local cache, and the hub cannot be reached (offline)"
            if isinstance(error, errors.LocalEntryNotFoundError)
            else "the repository holds no config.json"
        )
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"it is not in the local cache, and the hub did not answer: {first}"
    except errors.HFValidationError:
        problem = "that is no hub id (org/name)"
    raise UserError(f"{hub_id}: {problem}", hint=hint)
