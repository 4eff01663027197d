"""What an entry of ``conf/`` is and what can be set in it, in words.

The meaning of a setting is the comment beside it in the entry, or what its class says of the
argument; what it takes is the annotation. Sources are read and nothing is imported, so that help
does not wait for torch.
"""

import ast
import collections.abc
import importlib.util
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.conf import conf_folders, entries
from lightning_sep.settings.words import nearest, needs

_KEY = re.compile(r"(\s*)([A-Za-z_]\w*):(\s.*?)?(?:\s#\s*(.*))?$")
_NAMES = {**vars(typing), **vars(collections.abc), "Path": Path}


def about(group: str, name: str, config_dir: Path | str | None = None) -> list[str]:
    """Lines about an entry: what it is, then each setting with its default and what it takes.

    Raises:
        ConfigError: there is no such entry.
    """
    import yaml

    places = [folder / group / f"{name}.yaml" for folder in conf_folders(config_dir)]
    path = next((one for one in places if one.is_file()), None)
    if path is None:
        known = entries(group, config_dir)
        raise ConfigError(f"no {group} {name!r} in conf/{group}.{nearest(name, known)}")
    text = path.read_text()
    try:
        whole = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    node = whole[group] if isinstance(whole.get(group), Mapping) else whole
    comments = _comments(text)
    said = _Class(node.get("_target_"))
    lines = [f"{group}={name}: {opening(text) or said.brief}"]
    brought = [
        f"{key.removeprefix('override /')}={value}"
        for one in whole.get("defaults", ())
        if isinstance(one, Mapping)
        for key, value in one.items()
    ]
    if brought:
        lines.append(f"    brings {' '.join(brought)}")
    settings = [key for key in node if key not in ("_target_", "defaults")]
    for key in settings:
        meaning = comments.get(key) or said.arguments.get(key, "")
        takes = said.takes.get(key)
        lines.append(f"    {group}.{key}={_value(node[key])}" + (f"   ({takes})" if takes else ""))
        if meaning:
            lines.append(f"        {meaning}")
    return lines if settings else [*lines, "    no settings"]


def opening(text: str) -> str:
    """What the comment above an entry says."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _comments(text: str) -> dict[str, str]:
    """The comment beside each key, with the lines below that go on with it."""
    found: dict[str, str] = {}
    last = None
    for line in text.splitlines():
        match = _KEY.fullmatch(line)
        if match:
            last = match[2]
            if match[4]:
                found[last] = match[4].strip()
        elif last in found and line.startswith(" ") and line.lstrip().startswith("#"):
            found[last] += " " + line.lstrip("# ").strip()
        else:
            last = None
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    return str(value)


class _Class:
    """What the source of a class says of it; nothing where it is not to be found.

    Args:
        target: its path.
    """

    def __init__(self, target: object) -> None:
        self.brief = ""
        self.arguments: dict[str, str] = {}
        self.takes: dict[str, str] = {}
        module, _, name = str(target).rpartition(".")
        for node in ast.walk(_source(module)):
            if isinstance(node, ast.ClassDef) and node.name == name:
                self._read(node)

    def _read(self, node: ast.ClassDef) -> None:
        doc = ast.get_docstring(node) or ""
        self.brief = " ".join(doc.partition("\n\n")[0].split())
        section = re.search(r"^Args:\n((?:[ \t].*\n?|\n)*)", doc, re.MULTILINE)
        for match in re.finditer(
            r"^    (\w+): ((?:.*)(?:\n {8}.*)*)", section[1] if section else "", re.MULTILINE
        ):
            self.arguments[match[1]] = " ".join(match[2].split())
        for name, annotation in _annotations(node):
            words = _words(annotation)
            if words:
                self.takes[name] = words


def _source(module: str) -> ast.AST:
    """The syntax tree of a module, which is not imported."""
    root, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(root) if root else None
        if spec is None:
            return ast.Module([], [])
        places = [Path(one) for one in spec.submodule_search_locations or ()]
        inside = [place.joinpath(*rest.split(".")).with_suffix(".py") for place in places]
        found = next(iter(inside), Path(spec.origin or "")) if rest else Path(spec.origin or "")
        return ast.parse(found.read_bytes())
    except (OSError, ValueError, SyntaxError):  # help says what can be read
        return ast.Module([], [])


def _annotations(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            yield one.target.id, one.annotation
        elif isinstance(one, ast.FunctionDef) and one.name == "__init__":
            for argument in (*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs):
                if argument.annotation is not None:
                    yield argument.arg, argument.annotation


def _words(annotation: ast.expr) -> str:
    """An annotation in words; what only Python's side takes (a tensor) is left out."""
    if isinstance(annotation, ast.BinOp):
        parts = filter(None, (_words(annotation.left), _words(annotation.right)))
        return " or ".join(dict.fromkeys(parts))
    try:
        return needs(eval(compile(ast.Expression(annotation), "", "eval"), dict(_NAMES)))
    except Exception:  # a name of the module's own
        return ""
