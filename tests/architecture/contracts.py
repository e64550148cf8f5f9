"""A contract type of our own for import-linter: modules that only some folders may import.

The built-in types cannot say it for a tree that grows: ``forbidden`` needs every source to exist already, and
``protected`` fails when nobody imports the protected module yet.
"""

from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ConfinedContract(Contract):
    """Only ``allowed_importers`` and what lies below them may import ``confined_modules`` directly.

    Confined modules may be outside packages or project modules with ``*`` for one name; they count with everything
    below them. Neither they nor the importers need exist yet. A module below a confined one may import its siblings.
    """

    type_name = "confined"

    confined_modules = fields.ListField(subfield=fields.StringField())
    allowed_importers = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Every direct import of a confined module by a module that is not allowed to."""
        del verbose
        confined = _matching(graph, cast("list[str]", self.confined_modules))
        allowed = cast("list[str]", self.allowed_importers)
        illegal = [
            f"{importer} -> {module}"
            for module in sorted(confined)
            for importer in sorted(graph.find_modules_that_directly_import(module) - confined)
            if not any(importer == name or importer.startswith(f"{name}.") for name in allowed)
        ]
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line an import, as ``importer -> imported``."""
        for line in check.metadata["illegal"]:
            output.print_error(f"- {line}", bold=False)
        output.new_line()


def _matching(graph: ImportGraph, patterns: list[str]) -> set[str]:
    """The modules of a graph that patterns name, with everything below them."""
    tops = {module for pattern in patterns for module in _named(graph, pattern)}
    below = {
        module for top in tops if not graph.is_module_squashed(top) for module in graph.find_descendants(top)
    }
    return tops | below


def _named(graph: ImportGraph, pattern: str) -> set[str]:
    if "*" in pattern:
        return graph.find_matching_modules(pattern)
    return {pattern} & graph.modules
