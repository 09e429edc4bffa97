from pathlib import Path

import pytest

# The suites are not named test_*.py; have their assertions explained all the same.
pytest.register_assert_rewrite(
    *(f"tests.ops.{path.stem}" for path in Path(__file__).parent.glob("suite_*.py")),
)
