"""What the documentation says is true.

Its commands compose, its links lead somewhere, its table of keys is the config.
"""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import warm_python
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from mlepi.command_line import register_stages, translate_arguments
from mlepi.commands.study_words import join_words, name_structure
from mlepi.commands.table import COMMANDS as COMMANDS_OF_MLEPI
from mlepi.structures import build_graphene

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = re.compile(r"^\| `\w+` \|.*$", flags=re.MULTILINE)
"""Rows of tables of settings, whose comments speak of commands without writing them."""
COMMANDS = sorted(
    {
        line.split("#")[0].strip().replace("mlepi demo ", "mlepi infer experiment=demo ")
        for page in PAGES
        for line in re.findall(
            r"(?:python (?:train|infer)\.py|mlepi (?:train|infer|design|label|study|demo) )[^`\n]*",
            PROSE.sub("", page.read_text("utf-8")),
        )
        if "--help" not in line
    }
)

FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def shell_lines(text):
    """List the blocks of a page that are typed into a shell."""
    return [block for language, block in FENCED.findall(text) if language in ("", "bash")]


OTHER = r"(mlepi (?!train|infer|design|label|study|demo|verify|bench)[a-z]+(?![\w,.])[^`\n]*)"
OTHER_COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for page in PAGES
        for place, text in (
            (f"^{OTHER}", "".join(shell_lines(page.read_text("utf-8")))),
            (f"`{OTHER}`", FENCED.sub("", page.read_text("utf-8"))),
        )
        for line in re.findall(place, text, flags=re.MULTILINE)
        if not re.search(r"FORMAT|COMMAND|your_code|…|\[| --?h|^mlepi [a-z]+ --", line)
    }
)
"""Those that take options, without fragments; words in capitals stand for files."""

NOT_RUN = "<!-- not run: "
"""In the line before a block that cannot run here, with the reason."""

SHELL = (
    r"(?:exec |srun [^|]*?)?mlepi [a-z-]+",  # composed or parsed by other tests
    r"(?:OMP_NUM_THREADS=1 )?python (?P<script>[\w/]+\.py)\b",
    r"python -m (?P<module>mlepi[\w.]*)",
    r"make (?P<target>[a-z-]+)",
    r"git clone <this repository> mlepi && cd mlepi",
    r"export OMP_NUM_THREADS=1",
    r"python -m venv mace-env && mace-env/bin/pip install mace-torch",
    r'mace-env/bin/python "\$\(mlepi mace --script\)" \S+ \S+',
)
"""What a line of a shell block that is not marked may be."""


IMAGINED = re.compile("yours|NAME|valence_width")
"""Names of what a reader would write; the page about valence_width is run by another test."""


PLUGINS = {
    "submitit": "hydra_plugins.hydra_submitit_launcher",
    "search_": "hydra_plugins.hydra_optuna_sweeper",
}
"""Word of a command → optional package that it needs."""


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """List the blocks of a language, each with whether it is marked as one that is not run."""
    found = re.findall(
        rf"(?:^({NOT_RUN}\S[^\n]*) -->\n)?^```{language}\n(.*?)^```",
        page.read_text("utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    return [(bool(mark), block) for mark, block in found]


RUNNING = [
    page
    for page in PAGES
    if page.name not in ("README.md", "adding_an_observable.md")  # run by tests of their own
    and any(not marked for marked, _ in blocks(page, "python"))
]


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_command_composes(command):
    for word, plugin in PLUGINS.items():
        if word in command:
            pytest.importorskip(plugin)
    words = shlex.split(command)[1:]
    overrides = [word for word in words[1:] if word not in ("-m", "--dry-run")]
    if words[0] == "study":
        overrides = join_words(name_structure(overrides))
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


class ParsedError(Exception):
    """The arguments were understood."""


@pytest.mark.parametrize("command", OTHER_COMMANDS)
def test_documented_options_are_understood(command, monkeypatch):
    """Up to where the work would begin."""
    _, name, *arguments = shlex.split(command)
    assert name in COMMANDS_OF_MLEPI
    if len(arguments) < 2 and name in ("export", "checkpoints", "eval"):
        return  # a mere name
    if not arguments:
        return
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, given=None):
        parse(parser, given)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(ParsedError):
        COMMANDS_OF_MLEPI[name].load()(arguments)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_of_shell_blocks_are_known(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    unknown = []
    for marked, block in blocks(page, "bash"):
        if marked:
            done = subprocess.run(["/bin/bash", "-n"], input=block, text=True, check=False)
            assert done.returncode == 0
            continue
        for line in block.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            found = next((match for each in SHELL if (match := re.match(each, line))), None)
            groups = found.groupdict() if found else {}
            if (
                found is None
                or (groups.get("script") and not (ROOT / groups["script"]).is_file())
                or (groups.get("module") and find_spec(groups["module"]) is None)
                or (groups.get("target") and groups["target"] not in targets)
            ):
                unknown.append(line)
    assert unknown == []


def test_documentation_shows_commands():
    assert any("train.py" in command for command in COMMANDS)
    assert any("infer.py" in command for command in COMMANDS)
    assert any("mlepi train" in command for command in COMMANDS)
    assert any("mlepi infer" in command for command in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page):
    """Paths in backticks that begin with a folder of the project."""
    text = page.read_text("utf-8")
    named = re.findall(r"`((?:mlepi|conf|tests|docs|data|notebooks)/[\w./-]*)`", text)
    assert not [path for path in named if not IMAGINED.search(path) and not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_keys_exist(page):
    """Keys in backticks that begin with a group of configs, here by their ends."""
    listed = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/config.md").read_text("utf-8"), re.M)
    groups = "callbacks|data|dft|engine|graph|model|optimizer|sampler|size|stage|task|trainer"
    text = FENCED.sub("", page.read_text("utf-8"))
    unknown = []
    for key in re.findall(rf"`((?:{groups})\.[a-z][\w.]*\w)(?:=[^`]*)?`", text):
        words = key.removesuffix("._target_").split(".")
        ends = {".".join(words[start:]) for start in range(len(words))}
        known = ends & {*listed, "in_memory"}  # of data; it is there whether a config has it or not
        if not known and not IMAGINED.search(key) and not key.endswith(".py"):
            unknown.append(key)
    assert unknown == []


def python_blocks(page):
    return [block for _, block in blocks(page, "python")]


NEEDED = {
    "exports.md": "mlepi export csr POSCAR --electron data/checkpoints/hedgenet_electron.ckpt "
    "--fermi-energy 0 --out csr",
}
"""Page → command that leaves what its blocks read, in the folder where they run."""


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """All blocks of a page that are not marked, one after the other, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    if page.name in NEEDED:
        build_graphene("AB").write("POSCAR", format="vasp")
        _, name, *arguments = shlex.split(NEEDED[page.name])
        assert COMMANDS_OF_MLEPI[name].load()(arguments) == 0
    names = {"__name__": page.stem}
    for marked, block in blocks(page, "python"):
        if not marked:
            exec(compile(block, f"{page.name}", "exec"), names)  # noqa: S102 (our own pages)


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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
