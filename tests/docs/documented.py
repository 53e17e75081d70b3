"""The pages of the documentation, and the command lines in them."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from posa_vla import reference

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "src/posa_vla/reference/README.md"]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
CHECKPOINT = "--policy.path="
PLACEHOLDERS = {
    "=N": "=1",
    "--policy.type=NAME": "--policy.type=act",
    "--policy.path=first_half": "--policy.path=reference",
}


def command_lines(page: str, program: str) -> list[list[str]]:
    """The words after `program` in each of its command lines in blocks; what the blocks set as variables is put in."""
    return _words((line for block in FENCE.findall(page) for line in _shell_lines(block)), program)


def mentioned_commands(page: str, program: str) -> list[list[str]]:
    """The same of command lines in running text, which may lack required options; a name without options is none."""
    spans = (" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", page)))
    return [words for words in _words(spans, program) if len(words) > 1]


def _words(lines: Iterable[str], program: str) -> list[list[str]]:
    """`PLACEHOLDERS` and checkpoints get a value that is there; commands whose name is a placeholder are left out."""
    commands = [line.removeprefix(program).strip() for line in lines if line.startswith(f"{program} ")]
    words = [[_filled(word) for word in shlex.split(command, comments=True) if word != "…"] for command in commands]
    return [line for line in words if line and not line[0].isupper()]


def _filled(word: str) -> str:
    if word.startswith(CHECKPOINT):
        return f"{CHECKPOINT}{reference.FOLDER}"
    for placeholder, value in PLACEHOLDERS.items():
        if word.endswith(placeholder):
            return word.removesuffix(placeholder) + value
    return word


def _shell_lines(block: str) -> list[str]:
    """One command each: continued lines joined, variables put in, loops taken apart."""
    joined = block.replace("\\\n", " ")
    for name, value in re.findall(r"^(\w+)=\"([^\"]*)\"$", joined, re.MULTILINE):
        joined = joined.replace(f"${name}", value)
    for loop, name, values in re.findall(r"^((?:for )(\w+) in ([^;]*);.*)$", joined, re.MULTILINE):
        body = loop.split(" do ", 1)[1].split("; done")[0]
        joined = joined.replace(loop, "\n".join(body.replace(f"${name}", value) for value in values.split()))
    return [line.strip() for line in joined.splitlines()]


def mentioned_options(page: str) -> set[str]:
    """Names of the options, without dashes, that stand alone in running text: `--name` or `--name=value`."""
    spans = SPAN.findall(FENCE.sub("", page))
    return {found for span in spans for found in re.findall(r"^--([\w.]*\w)(?=$|=|\s)", span)}
