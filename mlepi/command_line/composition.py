"""Configurations as the scripts compose them, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from mlepi.command_line.arguments import translate_arguments
from mlepi.command_line.resolvers import register_stages
from mlepi.plugins import find_config_folders


class PluginConfigs(SearchPathPlugin):
    """Find the configs of other packages behind those of mlepi.

    Registered for the commands of mlepi only: other programs that use Hydra do not find them.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them."""
        for package in find_config_folders():
            search_path.append(provider="mlepi.configs", path=f"pkg://{package}")


def compose_config(
    config_folder: Path, config_name: str, arguments: Sequence[str] = ()
) -> DictConfig:
    """Compose a configuration as the scripts do, without running anything.

    Args:
        config_folder: folder of the YAML files.
        config_name: primary config, without extension.
        arguments: as on the command line.
    """
    register_stages(config_folder)
    Plugins.instance().register(PluginConfigs)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(config_folder.resolve())):
        return hydra.compose(config_name, translate_arguments(arguments))
