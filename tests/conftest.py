"""For all tests: assertions in helper modules explain themselves as those in tests do."""

import pytest

for helper in ("harness", "refusals", "clients", "stepped", "vectors.scene"):
    pytest.register_assert_rewrite(f"tests.integration.{helper}")
