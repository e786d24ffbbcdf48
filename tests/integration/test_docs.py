"""What the documentation says is true.

Its commands compose, its links lead somewhere, its table of keys is the config.
"""

import ast
import importlib
import importlib.util
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import warm_python
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from mlepi.command_line import register_stages, translate_arguments

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for page in PAGES
        for line in re.findall(
            r"(?:python (?:train|infer)\.py|mlepi (?:train|infer) )[^`\n]*", page.read_text("utf-8")
        )
    }
)


IMAGINED = re.compile("yours|NAME|valence_width")
"""Names of what a reader would write; the page about valence_width is run by another test."""


PLUGINS = {
    "submitit": "hydra_plugins.hydra_submitit_launcher",
    "search_": "hydra_plugins.hydra_optuna_sweeper",
}
"""Word of a command → optional package that it needs."""


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_command_composes(command):
    for word, plugin in PLUGINS.items():
        if word in command:
            pytest.importorskip(plugin)
    words = shlex.split(command)[1:]
    overrides = [word for word in words[1:] if word != "-m"]
    sweeps = [
        override.split("=")[1].split(",") if "-m" in words and "," in override else [None]
        for override in overrides
    ]
    keys = [override.split("=")[0] for override in overrides]
    first = [
        override if choices[0] is None else f"{key}={choices[0]}"
        for override, key, choices in zip(overrides, keys, sweeps, strict=True)
    ]
    for position, choices in enumerate(sweeps):
        for choice in choices:
            chosen = list(first)
            if choice is not None:
                chosen[position] = f"{keys[position]}={choice}"
            register_stages(ROOT / "conf")
            chosen = translate_arguments(chosen, Path(words[0]).stem)
            with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
                config = compose(Path(words[0]).stem, overrides=chosen, return_hydra_config=True)
            HydraConfig.instance().set_config(config)  # ${hydra:…} refers to it
            ours = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
            assert not OmegaConf.missing_keys(ours)


def test_documentation_shows_commands():
    assert any("train.py" in command for command in COMMANDS)
    assert any("infer.py" in command for command in COMMANDS)
    assert any("mlepi train" in command for command in COMMANDS)
    assert any("mlepi infer" in command for command in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page):
    """Paths in backticks that begin with a folder of the project."""
    text = page.read_text("utf-8")
    named = re.findall(r"`((?:mlepi|conf|tests|docs|data|notebooks)/[\w./-]*)`", text)
    assert not [path for path in named if not IMAGINED.search(path) and not (ROOT / path).exists()]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_python_example_of_the_first_steps_runs(tmp_path):
    """Run it in another folder: the checkpoints are found there too."""
    page = ROOT / "docs" / "first_steps.md"
    (example,) = [block for block in python_blocks(page) if "load_model" in block]
    code = example + "\nassert bands.shape == (2, 32)\n"
    run = warm_python.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_import_what_exists(page):
    nodes = [node for block in python_blocks(page) for node in ast.parse(block).body]
    absent = [
        alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if not find_spec(alias.name)
    ]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not IMAGINED.search(str(node.module)):
            module = importlib.import_module(node.module)
            absent += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if not hasattr(module, alias.name)
            ]
    assert absent == []


def test_table_of_keys_is_current():
    specification = importlib.util.spec_from_file_location(
        "make_config", ROOT / "docs" / "make_config.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    stored = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert stored == module.build_page(), "run: python docs/make_config.py"
