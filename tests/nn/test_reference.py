"""The page of the reference lists what is public."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from mplinalg import nn

PAGE = Path(__file__).parents[2] / "docs" / "api" / "nn.md"
MODULES = ["", ".checkpoint", ".convolution", ".data", ".init", ".optim", ".prune", ".schedules"]
ELSEWHERE = {"ALGORITHMS"}
"""What is a list of options, told where the options are."""


def public(module):
    """Functions and classes, each where it is the first to be public."""
    return {
        name
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
        and (module is nn or getattr(nn, name, None) is not getattr(module, name))
    } - ELSEWHERE


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_listed(name):
    sections = re.split(r"^\.\. currentmodule:: ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    named = {section.split()[0]: section for section in sections}
    listed = re.findall(r"^\.\. auto(?:function|class):: (\w+)", named[f"mplinalg.nn{name}"], re.M)
    assert sorted(listed) == sorted(public(importlib.import_module(f"mplinalg.nn{name}")))


def test_every_module_is_listed():
    modules = {f".{name}" for name in nn.__all__ if inspect.ismodule(getattr(nn, name))}
    assert modules <= {*MODULES}


FUNCTIONS = sorted(
    (name, one)
    for name in MODULES
    for module in [importlib.import_module(f"mplinalg.nn{name}")]
    for one in public(module)
)
MAIN = [
    "BatchNorm2d", "Conv2d", "Dropout", "Linear", "LossScaler", "MaxPool2d", "Model", "Module",
    "Operation", "Parameter", "Sequential", "Tensor", "checkpoint.save", "convolution.conv2d",
    "cross_entropy", "data.DataLoader", "data.read_csv", "mse_loss", "no_grad", "precision_scope",
    "prune.ADMM", "prune.Masked", "prune.Masks", "prune.compact", "prune.magnitude", "prune.nested",
    "prune.pattern", "prune.structured", "schedules.Cosine",
    *(f"optim.{name}" for name in nn.optim.__all__),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=lambda part: part.removeprefix("."))
def test_it_describes_its_parameters(module, name):
    one = getattr(importlib.import_module(f"mplinalg.nn{module}"), name)
    doc = inspect.getdoc(one) or ""
    described = re.search(r"^(?:Parameters|Attributes)\n-+\n(.*)", doc, re.DOTALL | re.MULTILINE)
    for parameter in inspect.signature(one).parameters:
        assert described, parameter
        assert re.search(rf"^(.*, )?\*?{parameter}\b.*:", described[1], re.M), parameter


@pytest.mark.parametrize("name", MAIN)
def test_it_has_an_example(name):
    module, _, last = f"mplinalg.nn.{name}".rpartition(".")
    assert ">>> " in (inspect.getdoc(getattr(importlib.import_module(module), last)) or "")
