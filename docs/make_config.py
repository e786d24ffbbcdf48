"""Write ``docs/config.md``.

Every key that a user can set, with default, unit and meaning, read from the files in ``conf``.

``python docs/make_config.py`` renews the page after a change of ``conf``; a test compares both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(
    r"^(?P<indent> *)(?P<item>- )?(?P<key>[\w/@.]+):(?P<value>(?: "
    r"[^#]*?)?)(?:\s+#\s*(?P<comment>.*))?$"
)
COMMAND = re.compile(r"^#   (\S+(?: \S+)*) *(.*)$")
"""A command with an indent in a comment, and after two blanks what it does."""

HEAD = """# Configuration

Every key, its default, and its unit and meaning.
`python docs/make_config.py` writes this page from the comments in `conf`.

A key is set on the command line, `python infer.py n_samples=200`.
A group is exchanged by its name, `python train.py size=published`.
`null` stands for "not set" or, where the comment says so, for a value that the data fill in.
"""


def read_keys(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, default, comment) of one YAML file, without Hydra's own keys."""
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        found = LINE.match(line)
        if not found or found["item"]:
            continue
        indent, key, value = len(found["indent"]), found["key"], found["value"].strip()
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, key))
        names = [name for _, name in parents]
        if names[0] in ("defaults", "hydra") or (key.startswith("_") and key.endswith("_")):
            continue
        if value or found["comment"]:
            yield ".".join(names), value, found["comment"] or ""


def describe(path: Path) -> str:
    """Return the leading comment of a YAML file in one line, with its commands as code."""
    lines = path.read_text(encoding="utf-8").splitlines()
    leading = [
        COMMAND.sub(r"`\1` \2", line).lstrip("# ")
        for line in lines[
            : next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
        ]
    ]
    return " ".join(" ".join(leading).split())


def build_page() -> str:
    """Return the whole page."""
    conf = ROOT / "conf"
    files = [
        conf / "train.yaml",
        conf / "infer.yaml",
        conf / "design.yaml",
        conf / "label.yaml",
        conf / "study.yaml",
        *sorted(path for path in conf.rglob("*.yaml") if path.parent != conf),
    ]
    parts = [HEAD]
    for path in files:
        name = path.relative_to(conf).with_suffix("").as_posix()
        rows = list(read_keys(path))
        if not rows:
            continue
        parts.append(f"\n## {name}\n")
        if path.parent != conf and describe(path):
            parts.append(f"\n{describe(path)}\n")
        parts.append("\n| key | default | unit and meaning |\n|---|---|---|\n")
        escaped = ([text.replace("|", "\\|") for text in row] for row in rows)
        parts += [
            f"| `{key}` | {f'`{value}`' if value else ''} | {comment} |\n"
            for key, value, comment in escaped
        ]
    return "".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "config.md").write_text(build_page(), encoding="utf-8")
