"""Whether held-out pairs are new to a policy: which ones are held out follows from the objects that are chosen."""

from pathlib import Path

from posa_vla.data.tasks import read_sentences
from posa_vla.evaluation.records import EnvOptions


def warning_of_known_pairs(root: Path, options: EnvOptions) -> str | None:
    """What to say if the training dataset in `root` names pairs that `OBJECTS` would hold out; None otherwise."""
    from posa_vla.sim.conditions import OBJECTS, chosen_pairs

    pairs = chosen_pairs(options.categories, options.colours, options.held_out).held_out
    names, sentences = [" ".join(pair) for pair in pairs], read_sentences(root).values()
    known = [name for name in names if any(name in sentence for sentence in sentences)]
    if not known:
        return None
    return (
        f"the condition {OBJECTS} holds out {', '.join(names)}, and sentences of {root} name {', '.join(known)}: "
        "give the recording's --categories, --colours and --held_out, or do not call these pairs unseen"
    )
