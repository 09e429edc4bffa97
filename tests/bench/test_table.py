"""Tables of text and of Markdown."""

from mplinalg.bench import table


def test_columns_are_aligned():
    text = table.aligned(["n", "time\nms"], [["8", "0.5"], ["1024", "17"]])
    assert text.splitlines() == [
        "      time",
        "   n    ms",
        "----------",
        "   8   0.5",
        "1024    17",
    ]


def test_a_remark_may_be_long():
    text = table.aligned(
        ["n", "a", "b"], [["8", "1", "2"], ["1024", "WRONG ANSWER: it is too long"]]
    )
    assert text.splitlines() == [
        "   n  a  b",
        "----------",
        "   8  1  2",
        "1024  WRONG ANSWER: it is too long",
    ]


def test_markdown_escapes_bars():
    text = table.markdown(["what", "n\nrows"], [["||x||", "3"], ["short"]])
    assert text.splitlines() == [
        "| what | n rows |",
        "| --- | ---: |",
        r"| \|\|x\|\| | 3 |",
        "| short |  |",
    ]
