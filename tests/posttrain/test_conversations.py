"""What a fine-tuned folder says of the conversations that it was trained on."""

import json

import pytest

from inhouse.posttrain.conversations import trained_on


def test_a_folder_says_which_environments_it_was_trained_on(tmp_path):
    assert trained_on(tmp_path) == []
    (tmp_path / "conversations.json").write_text('{"conversations": 3}')  # written before it said so
    assert trained_on(tmp_path) == []
    (tmp_path / "conversations.json").write_text('{"generated": {"strings": 2, "brackets": 0, "library": 1}}')
    assert trained_on(tmp_path) == ["strings", "library"]
    (tmp_path / "conversations.json").write_text('{"generated": {"chess": 2}}')
    with pytest.raises(ValueError, match='there is no environment "chess"'):
        trained_on(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("stage.json", {"settings": {"sft": {"generated": {"addition": 5, "strings": 0}}}}),
        ("lineage.json", {"stages": {"sft": {"settings": {"sft": {"generated": {"addition": 5}}}}}}),
    ],
)
def test_a_stage_of_before_and_an_exported_folder_say_it_too(tmp_path, file, content):
    (tmp_path / "conversations.json").write_text('{"conversations": 3, "steps": 4}')
    (tmp_path / file).write_text(json.dumps(content))
    assert trained_on(tmp_path) == ["addition"]
