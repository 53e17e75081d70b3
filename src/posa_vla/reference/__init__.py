"""The policy that is shipped with the package; README.md beside this file says how it was made."""

from pathlib import Path

NAME = "reference"
"""Stands for its folder wherever an evaluation asks for a policy: ``--policy.path=reference``."""

FOLDER = Path(__file__).parent / "pretrained_model"
