"""Passwords, keys and tokens written out, in code, YAML, TOML and Dockerfiles. No value is ever repeated."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import yaml

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import Document, Module, Project
from mlops_assets.doctor.reading import Text

_SHAPES = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "a Slack webhook": r"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "an OpenAI or Anthropic key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}",
    "a Stripe key": r"\b[sr]k_live_[A-Za-z0-9]{20,}",
    "a Databricks token": r"\bdapi[0-9a-f]{32}\b",
    "a Hugging Face token": r"\bhf_[A-Za-z]{34}\b",
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "a signed web token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
}
_KNOWN = {what: re.compile(shape) for what, shape in _SHAPES.items()}
_IN_URI = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@'\"]*:(?P<value>[^\s:/@'\"]{3,})@[\w.-]+")
_PASSWORD = re.compile(r"(^|[_-])(password|passwd|pwd|passphrase)$", re.IGNORECASE)
_KEY = re.compile(
    r"(^|[_-])(secret|secret_?key|api_?key|access_?key|secret_?access_?key|account_?key|private_?key|client_?secret|token)$",
    re.IGNORECASE,
)
_OTHER_TOKEN = re.compile(r"(next|page|continuation|sort|pad|eos|bos|mask|sep|unk|cls|special)_token$", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"[<>{}$*]|\.\.\.|xxx|chang|your|example|dummy|placeholder|replace|redact|todo|fake|sample|not[_-]?(a|used|real|needed)|"
    r"^(none|null|true|false|test|testing|secret|string|str|env|empty|unset|anonymous)$|^(.)\3*$",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$")
_DEFAULTS = {
    "pass",
    "passwd",
    "password",
    "postgres",
    "postgres_password",
    "admin",
    "root",
    "dagster",
    "mlflow",
    "minio",
    "minioadmin",
    "guest",
    "user",
}
_LINE = re.compile(
    r"""^\s*(?:(?:ENV|ARG|export)\s+)?["']?(?P<name>[\w.-]+)["']?\s*[=:]\s*(?P<quote>["']?)(?P<value>[^"'\s#]+)(?P=quote)\s*(?:#.*)?$"""
)
_ENVIRONMENT = {"os.getenv", "os.environ.get", "os.environ.setdefault"}
_MEND = "Take it out and replace it where it is valid; read it with dg.EnvVar, `env:` in YAML, or a secret store."


def find(project: Project) -> Iterator[Found]:
    """Every literal that has the shape of a known secret, or the name of one and a value of its own."""
    for module in project.modules:
        yield from _in_python(module)
    for document in project.documents:
        yield from _in_yaml(document)
    parsed = {document.text.path for document in project.documents}
    for text in project.texts:
        yield from _by_shape(text)
        if text.path not in parsed and not text.is_requirements:
            yield from _by_line(text)


def _in_python(module: Module) -> Iterator[Found]:
    for node in module.nodes:
        match node:
            case ast.Constant(value=str(value)):
                if not _is_docstring(module, node) and (what := _shape(value) or _address(value)):
                    yield Found(module.path, node.lineno, f"This has the shape of {what}", _MEND)
            case ast.Call(args=[ast.Constant(value=str(name)), ast.Constant(value=value) as given]):
                if module.name_of(node.func) in _ENVIRONMENT and _named(name, value):
                    yield _by_name(module.path, given.lineno, name, " as the default of an environment variable")
            case _:
                yield from (
                    _by_name(module.path, line, name) for name, value, line in _pairs(node) if _named(name, value)
                )


def _pairs(node: ast.AST) -> Iterator[tuple[str, object, int]]:
    """The names that this line gives a literal value, each with the value and its line."""
    match node:
        case ast.keyword(arg=str(name), value=ast.Constant(value=value) as given):
            yield name, value, given.lineno
        case (
            ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)], value=ast.Constant(value=value) as given)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value) as given)
        ):
            yield name, value, given.lineno
        case ast.Dict(keys=keys, values=values):
            for key, given in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(given, ast.Constant):
                    yield str(key.value), given.value, given.lineno


def _in_yaml(document: Document) -> Iterator[Found]:
    waiting, seen = list(document.nodes), set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                waiting.append(value)
                if (
                    isinstance(key, yaml.ScalarNode)
                    and isinstance(value, yaml.ScalarNode)
                    and _named(key.value, value.value)
                ):
                    yield _by_name(document.text.path, value.start_mark.line + 1, key.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _by_shape(text: Text) -> Iterator[Found]:
    for number, line in enumerate(text.lines, 1):
        words = [] if line.lstrip().startswith("#") else [word.strip("\"'") for word in line.split()]
        if what := _shape(line) or next(filter(None, map(_address, words)), ""):
            yield Found(text.path, number, f"This has the shape of {what}", _MEND)


def _by_line(text: Text) -> Iterator[Found]:
    for number, line in enumerate(text.lines, 1):
        if (said := _LINE.match(line)) and _named(said["name"], said["value"]):
            yield _by_name(text.path, number, said["name"])


def _by_name(path: str, line: int, name: str, where: str = "") -> Found:
    return Found(path, line, f"`{name}` is written out{where}", _MEND)


def _shape(value: str) -> str:
    for what, shape in _KNOWN.items():
        found = shape.search(value)
        if found and not _PLACEHOLDER.search(found.group()):
            return what
    return ""


def _address(value: str) -> str:
    """Whether a value is an address with a password; one within a sentence is an example."""
    uri = _IN_URI.search(value)
    return "an address with its password" if uri and " " not in value.strip() and _holds(uri["value"]) else ""


def _named(name: str, value: object) -> bool:
    """Whether a name says that its value is a secret, and the value looks like one rather than like a stand-in."""
    if not isinstance(value, str) or not _holds(value):
        return False
    if _PASSWORD.search(name):
        return True
    mixed = any(each.isdigit() for each in value) and any(each.isalpha() for each in value)
    return (
        bool(_KEY.search(name))
        and not _OTHER_TOKEN.search(name)
        and mixed
        and len(value) >= 16
        and "/" not in value[:1]
    )


def _holds(value: str) -> bool:
    """Whether a value is more than a placeholder, a reference, or the default that everybody knows."""
    plain = value.strip().lower()
    reference = "://" in plain or _IDENTIFIER.search(value) or plain.startswith(("env:", "arn:", "/", "secret/"))
    return (
        len(plain) >= 4
        and " " not in plain
        and plain not in _DEFAULTS
        and not reference
        and not _PLACEHOLDER.search(plain)
    )


def _is_docstring(module: Module, node: ast.Constant) -> bool:
    return isinstance(module.parents.get(node), ast.Expr)
