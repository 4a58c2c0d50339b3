"""Everything that a start loads, before a process binds, serves or gives up its rights."""

import functools
import os
from datetime import datetime

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig
from mtlsproxy.fetch.at_start import load_at_start
from mtlsproxy.fetch.cache import state_folder
from mtlsproxy.runtime.material import Material, load_material
from mtlsproxy.runtime.privileges import PrivilegeError, process_of


def load_for_start(loaded: LoadedConfig, at: datetime) -> Material:
    """As load_material, with large CRL files read by a helper process. Raises ConfigErrors."""
    config = loaded.config
    try:
        who = process_of(config.user)
    except PrivilegeError as error:
        raise ConfigErrors([loaded.error("user", error.detail)]) from error
    folder = state_folder(config.state_dir, os.environ)
    return load_material(loaded, at, load=functools.partial(load_at_start, folder, who))
