"""Folders that a policy is built from (a CLIP with its tokenizer), carried along inside its checkpoints.

A checkpoint's config.json and policy_preprocessor.json name them by a path relative to themselves; `resolve` makes
the path whole where the checkpoint lies now.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.configs import PreTrainedConfig

from posa_vla.errors import PosaError

FIELDS = ("vision_encoder_name", "text_encoder_name")
"""Options of LeRobot's policies that may name a local folder."""

CLIP = "clip"
"""Beginning of a bundled folder's name: multi_task_dit insists that it contain the word."""

TOKENIZER, TOKENIZER_NAME = "tokenizer_processor", "tokenizer_name"
DESCRIPTIONS = ("config.json", "policy_preprocessor.json")


@dataclass(frozen=True)
class Bundle:
    """Files by folder, in memory: the folder read from may be gone when a checkpoint is written.

    Args:
        names: by the folder's path in the policy's configuration, its name beside the weights.
        files: by that name, the files' contents by file name.
    """

    names: dict[str, str]
    files: dict[str, dict[str, bytes]]

    @classmethod
    def read(cls, config: PreTrainedConfig) -> "Bundle":
        """The local folders that `config` names; a name that is no folder is the hub's and stays as it is."""
        named = (getattr(config, field, None) for field in FIELDS)
        folders = dict.fromkeys(name for name in named if isinstance(name, str) and Path(name).is_dir())
        names = {folder: CLIP if number == 0 else f"{CLIP}_{number}" for number, folder in enumerate(folders)}
        files = {
            name: {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
            for folder, name in names.items()
        }
        return cls(names, files)

    def write(self, pretrained: Path) -> None:
        """Write the folders into a saved policy and make its descriptions name them."""
        if not self.names:
            return
        for name, contents in self.files.items():
            (pretrained / name).mkdir()
            for file, content in contents.items():
                (pretrained / name / file).write_bytes(content)
        for description in DESCRIPTIONS:
            path = pretrained / description
            path.write_text(json.dumps(_renamed(json.loads(path.read_text()), self.names), indent=4) + "\n")


def _renamed(tree: Any, names: dict[str, str]) -> Any:
    """`tree` with every string that is a key of `names` replaced."""
    if isinstance(tree, dict):
        return {key: _renamed(value, names) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_renamed(value, names) for value in tree]
    return names.get(tree, tree) if isinstance(tree, str) else tree


def resolve(config: PreTrainedConfig, pretrained: Path) -> dict[str, Any]:
    """Make the bundled names in `config` whole paths; returns the preprocessor's overrides that do the same.

    Raises:
        PosaError: a bundled folder is missing from the checkpoint.
    """
    for field in FIELDS:
        name = getattr(config, field, None)
        if name is not None and _is_bundled(name):
            setattr(config, field, str(_inside(pretrained, name)))
    path = pretrained / DESCRIPTIONS[1]
    steps = json.loads(path.read_text())["steps"] if path.is_file() else []
    for step in steps:
        name = step.get("config", {}).get(TOKENIZER_NAME, "")
        if step.get("registry_name") == TOKENIZER and _is_bundled(name):
            return {TOKENIZER: {TOKENIZER_NAME: str(_inside(pretrained, name))}}
    return {}


def _is_bundled(name: str) -> bool:
    return name.partition("_")[0] == CLIP and "/" not in name


def _inside(pretrained: Path, name: str) -> Path:
    folder = (pretrained / name).resolve()
    if not folder.is_dir():
        raise PosaError(
            f"expected the folder {folder}, which the policy's encoders and tokenizer are read from, found none: copy "
            "the whole pretrained_model folder"
        )
    return folder
