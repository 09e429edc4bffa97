"""Tables of text and of Markdown."""

from mplinalg.bench import table


def test_the_columns_of_a_timed_row():
    ours = {
        "seconds": {"median": 0.0125}, "gflops": 40.0, "percent_of_double_gemm": 80.0,
        "percent_of_single_gemm": 41.0, "joules_per_call": 2.5, "error": 3e-17,
    }  # fmt: skip
    peer = {"status": "ok", "ratio": {"median": 2.0, "q1": 1.5, "q3": 3.0}}
    record = {
        "status": "ok", "parameters": {"n": 64}, "ours": ours, "peers": {"scipy": peer},
        "report": {"iterations": 3, "inner_iterations": 11, "precision": "fp32", "method": "LU"},
    }  # fmt: skip
    heads, (row,) = table.of_rows([record])
    assert dict(zip(heads, row, strict=True)) == {
        "n": "64", "time\nms": "12.5", "rate\nGFLOP/s": "40.0", "of fp64\nGEMM, %": "80",
        "of fp32\nGEMM, %": "41", "energy\nJ": "2.50", "error": "3.0e-17", "steps": "3 (11)",
        "rung": "fp32 LU", "scipy / ours\nmedian [q1, q3]": "2.00 [1.50, 3.00]",
    }  # fmt: skip


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
