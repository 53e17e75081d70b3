"""A small experiment."""

CONTENT = {
    "question": "Does it matter?",
    "notes": "A laptop.",
    "reference": "full",
    "seeds": [0, 1],
    "record": {"episodes": 10, "categories": "cube,can"},
    "label": {"rig": "tabletop"},
    "train": {"steps": 8, "batch_size": 4, "policy.preset": "tiny", "policy.anchor_steps": 2},
    "eval": {"conditions": "basic:4,lights:4", "solved": 3},
    "variants": {
        "full": {},
        "blind": {"train": {"policy.gate": "none", "policy.anchor_steps": 0, "steps": 6}, "eval": {"solved": 1}},
    },
}
