"""What pyproject.toml lists is what is on disk, and light commands stay light."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {"torch", "triton", "numpy", "pandas", "scipy", "gguf", "huggingface_hub", "transformers"}

# Who may import whom, bottom to top. A package may import those on lines above its own,
# and those on its own line.
LAYERS = [
    {"errors", "units", "files"},
    {"spec"},
    {"calc", "catalog", "engines"},
    {"kernels", "profiles"},
    {"variants"},
    {"measure", "validation", "verification", "gate", "aot", "calibration"},
    {"quality", "phases"},
    {"report"},
    {"commands", "api", "api_plan"},
    {"cli", "__main__"},
]


def folders() -> dict[str, Path]:
    """Every package on disk, by its import name."""
    mapped = PYPROJECT["tool"]["setuptools"]["package-dir"]
    found = {}
    for name, root in {"attnbench": "attnbench", **mapped}.items():
        for init in sorted((ROOT / root).rglob("__init__.py")):
            inner = init.parent.relative_to(ROOT / root).parts
            found[".".join((name, *inner))] = init.parent
    return found


def test_every_package_on_disk_is_listed() -> None:
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(folders())


def imports(path: Path) -> set[str]:
    """Packages of attnbench that a file imports at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "attnbench":
                names = [f"attnbench.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("attnbench.")}
    return found


def test_imports_point_downwards() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    # `profiles` is data: whoever reads YAML may look into it.
    level["profiles"] = 0
    upward = []
    for package, folder in folders().items():
        for path in sorted(folder.glob("*.py")):
            mine = package.split(".")[1] if "." in package else path.stem
            if mine == "__init__":
                continue
            for other in imports(path):
                if other in level and level[other] > level[mine]:
                    upward.append(f"{path.relative_to(ROOT)} imports {other}")
    assert upward == []


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after `code`."""
    probe = f"import sys\n{code}\nprint(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.splitlines() else set()


def test_the_probe_can_fail() -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["kv-cache", "llama-3-8b"],
        ["memory", "llama-3-8b"],
        ["models"],
        ["validate", "--help"],
        ["roofline", "--gpu", "h100-sxm,mi300x", "--engine", "vllm"],
        ["complexity", "--seq-lens", "1k"],
        ["calibrate", "--help"],
        ["gpus"],
        ["variants"],
        ["speculate"],
        ["plan", "llama-3-8b", "--gpus", "h100-sxm", "--max-gpus", "2"],
        ["paging", "llama-3-8b"],
        ["patterns"],
        ["quality", "--run", "results/xeon-2-cores/default"],
        ["sweep", "--help"],
        ["verify", "--help"],
    ],
    ids=" ".join,
)
def test_calculators_and_help_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"from attnbench.cli import run\nassert run({arguments!r}) == 0\nprint()"
    assert loaded_by(code) == set()
    assert loaded_by(f"{code}\nimport numpy") == {"numpy"}, "the command did not end well"


def test_the_kernels_package_of_somebody_else_keeps_its_name() -> None:
    code = (
        "import importlib.util, attnbench.kernels\n"
        "assert importlib.util.find_spec('kernels') is None, importlib.util.find_spec('kernels')"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd=ROOT)
