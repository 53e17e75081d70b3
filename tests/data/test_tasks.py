"""Goal ids of sentences."""

import json

import pytest

from posa_vla.contract import TASK_IDS_FILE
from posa_vla.data.tasks import read_sentences, task_ids
from posa_vla.errors import PosaError


def write(root, content: str):
    (root / "meta").mkdir()
    (root / TASK_IDS_FILE).write_text(content)


def test_two_wordings_of_one_goal_share_its_id(tmp_path):
    write(tmp_path, json.dumps({"take the can": 7, "grab the can": 7, "take the milk": 2}))
    ids = task_ids(tmp_path, ["take the milk", "grab the can", "take the can"])
    assert ids.tolist() == [2, 7, 7] and ids.dtype == "int64"


def test_without_the_file_every_sentence_is_its_own_goal(tmp_path):
    assert task_ids(tmp_path, ["a", "b", "c"]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 0}', "lacks the sentence 'b'"),
        ("[0, 1]", "expected {sentence: goal number}"),
        ('{"a": 0, "b": "x"}', "expected {sentence: goal number}"),
        ('{"a": true, "b": 1}', "expected {sentence: goal number}"),
        ('{"a": 0,', "cannot read"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(PosaError, match=message):
        task_ids(tmp_path, ["a", "b"])


def test_a_missing_table_of_sentences_is_named_once(tmp_path):
    with pytest.raises(PosaError, match=r"^there is no \S+tasks\.parquet with the dataset's sentences: copy"):
        read_sentences(tmp_path)
