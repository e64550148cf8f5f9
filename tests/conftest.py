"""Fixtures shared by all tests: real engines from wheels, and databases made by the migrations."""

pytest_plugins = ["tests.fixtures_engines", "tests.fixtures_database"]
