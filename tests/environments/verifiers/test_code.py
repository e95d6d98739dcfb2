"""Code out of replies: fenced, bare, a whole function or the rest of one."""

import pytest

from inhouse.environments.verifiers.code import body_of, code_of, defines


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("Sure:\n```\ndef f(): pass\n```\nand use it:\n```python\nprint(f())\n```", "def f(): pass\n"),
        ("```py\nx = 1\n```\n~~~Python3\nx = 2\n~~~\n```bash\nls\n```", "x = 2\n"),
        ("```python\ndef f():\n    return 1", "def f():\n    return 1"),
        ("````python\nf = '''\n```\n'''\n````", "f = '''\n```\n'''\n"),
        ("```python\ndef f(): return 1\n```\nor better\n```python\ndef f(): return 2\n```", "def f(): return 2\n"),
        ("    return 1\n", "    return 1\n"),
        ("    return 1\n```\n\nIt is one.", "    return 1\n```\n\nIt is one."),
        ("\n    return 1\n\n```python\nprint(f())\n```", "\n    return 1\n\n```python\nprint(f())\n```"),
        ("    ```\n    return 1\n    ```", "    return 1\n"),
        ("", ""),
    ],
)
def test_blocks(reply, code):
    assert code_of(reply, "f") == code


def test_a_definition_stands_at_the_left_edge():
    assert defines("import os\ndef f(x):\n    pass", "f")
    assert defines("f = lambda x: x", "f")
    assert not defines("def fun(x): pass\nclass A:\n    def f(self): pass\nf == 1", "f")


def test_a_body_ends_where_the_next_thing_begins():
    body = "    if x:\n        return 1\n    # no\n\n    return 2\n"
    for after in (
        "def g(): pass",
        "class A: pass",
        "# test",
        "if __name__ == '__main__':",
        "print(f(1))",
        "```\nIt is",
    ):
        assert body_of(f"{body}\n{after}") == body
    assert body_of(body) == body


@pytest.mark.parametrize("reply", ["`" * 200_000, "```" + "a" * 200_000, "```" + " " * 200_000, "~" * 200_000])
def test_a_fence_without_end_is_read_once(reply):
    assert code_of(reply, "f") == reply
