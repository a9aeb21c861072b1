"""How long does a package take?  yo-dawg against what users would take instead, in one run, in turns.

    .venv/bin/python -m benchmarks.packages [--projects mid,big] [--rounds N] [--only TOOL,…] [--write]

Each tool builds the same project three times a round: cold (its caches are empty), after a change of the code
alone, and with nothing changed.  pip, uv and SAM also upload what they made to the embedded AWS; Chalice has no
upload of its own; yo-dawg deploys it too, and its time is what a client waits for.  --write puts the table and
the plot into the README.  Needs a package index, from which the tools too are installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local import runtimes  # noqa: E402
from tests.embedded import BUCKET, RUNTIMES, Builder, embedded_aws, lay_out  # noqa: E402

TOOLS = {
    "pip": "pip==26.3",
    "uv": "uv==0.13.9",
    "SAM": "aws-sam-cli==1.170.0 pip==26.3",
    "Chalice": "chalice==1.34.0 pip==26.2",
}
"""The others, pinned; each gets an environment of its own."""

PROJECTS = {
    "mid": (
        "requests==2.34.2\ncryptography==50.0.2\npydantic==2.14.3\njinja2==3.1.6\npyyaml==6.0.3\nsqlalchemy==2.1.9\n",
        "import cryptography.fernet, jinja2, pydantic, requests, sqlalchemy, yaml\n",
    ),
    "big": (
        "pandas==2.3.3\npyarrow==21.0.0\ncryptography==50.0.2\npydantic==2.14.3\nrequests==2.34.2\n",
        "import cryptography.fernet, pandas, pyarrow, pydantic, requests\n",
    ),
}
"""What the projects require, and what their code imports."""

KINDS = ("cold", "code changed", "nothing changed")

HANDLER = "def lambda_handler(event, context):\n    return 'ok'\n"
TEMPLATE = """AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Function:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: src, Handler: lambda_function.lambda_handler, Runtime: RUNTIME}
"""


class Tool:
    """One of the others: a folder with its environment, its project and its caches."""

    def __init__(self, name: str, folder: Path, builder: Builder) -> None:
        """Install it."""
        self.name, self.folder, self.builder = name, folder, builder
        self.project = folder / "project"
        self.python = folder / "venv" / "bin" / "python"
        uv = Path(sys.executable).with_name("uv")
        interpreter = runtimes.available()[builder.runtime]
        subprocess.run([uv, "venv", "--quiet", "--python", interpreter, folder / "venv"], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", self.python, *TOOLS[name].split()], check=True)

    def lay_out(self, files: Mapping[str, str]) -> None:
        """Write the project as this tool wants it."""
        if self.name == "SAM":
            template = TEMPLATE.replace("RUNTIME", self.builder.runtime)
            files = {"template.yaml": template, **{f"src/{name}": text for name, text in files.items()}}
        elif self.name == "Chalice":
            # It imports app.py itself; what that imports would have to be installed beside Chalice too.
            app = "from chalice import Chalice\napp = Chalice(app_name='app')\n"
            app += "@app.lambda_function()\ndef handler(event, context):\n    return 'ok'\n"
            code = files["lambda_function.py"]
            files = {
                "app.py": app, "requirements.txt": files["requirements.txt"], "chalicelib/__init__.py": "",
                "chalicelib/lambda_function.py": code, ".chalice/config.json": '{"version": "2.0", "app_name": "app"}',
            }  # fmt: skip
        lay_out(self.project, files)

    def forget(self) -> None:
        """Empty all caches."""
        for each in ("home", "project"):
            shutil.rmtree(self.folder / each, ignore_errors=True)
            (self.folder / each).mkdir()

    def run(self, *command: str | Path) -> None:
        """Run a command of the tool in the project."""
        clients = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
        environ = {
            **self.builder.aws.environ, **clients,
            "PATH": f"{self.python.parent}:{os.defpath}", "HOME": str(self.folder / "home"),
            "SAM_CLI_TELEMETRY": "0", "LANG": "C.UTF-8",
        }  # fmt: skip
        done = subprocess.run(command, cwd=self.project, env=environ, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.name}: {command}: {done.stdout}{done.stderr}")

    def build(self, *, again: bool) -> int:
        """Build, and upload; return the bytes of the zip."""
        if self.name == "SAM":
            self.run(self.python.with_name("sam"), "build", "--cached")
            package = ("package", "--s3-bucket", BUCKET, "--output-template-file", "out.yaml")
            self.run(self.python.with_name("sam"), *package)
            objects = self.builder.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
            return int(max(objects, key=lambda each: each["LastModified"])["Size"])
        if self.name == "Chalice":
            self.run(self.python.with_name("chalice"), "package", "out")
            return (self.project / "out" / "deployment.zip").stat().st_size
        target = self.project / "package"
        shutil.rmtree(target, ignore_errors=True)
        if self.name == "pip":
            self.run(
                self.python, "-m", "pip", "install", "--quiet", "--target", target, "--requirement", "requirements.txt"
            )
        else:
            options = ("--quiet", "--python", self.python, "--target", target, "--requirements", "requirements.txt")
            self.run(self.python.with_name("uv"), "pip", "install", *options)
        shutil.copy(self.project / "lambda_function.py", target)
        archive = Path(shutil.make_archive(str(self.folder / "package"), "zip", target))
        self.builder.s3.upload_file(str(archive), BUCKET, f"{self.name}.zip")
        return archive.stat().st_size


class YoDawg:
    """yo-dawg, invoked as a client does; each round has a function of its own, for which nothing was built yet."""

    name = "yo-dawg"

    def __init__(self, builder: Builder) -> None:
        """Use this builder."""
        self.builder, self.rounds, self.files = builder, 0, dict[str, str]()

    def lay_out(self, files: Mapping[str, str]) -> None:
        """Push the project."""
        if files != self.files:
            self.files = dict(files)
            self.builder.add_project(self.project, self.files)

    def forget(self) -> None:
        """Begin anew."""
        self.rounds += 1
        self.files = {}

    @property
    def project(self) -> str:
        """The name of the project, and of its function."""
        return f"project-{self.rounds}"

    def build(self, *, again: bool) -> int:
        """Build, and deploy.  The same payload again would be taken for a client's retry, and answered from memory."""
        fields = {"ref": "main"} if again else {}
        return int(self.builder.build(self.project, **fields)["package"]["zip_bytes"])


def start_seconds(builder: Builder, package: zipfile.ZipFile, *, bytecode: bool) -> float:
    """Return the seconds that the handler's import takes, from files that are not in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        package.extractall(folder, [name for name in package.namelist() if bytecode or "__pycache__" not in name])
        os.sync()
        for path in Path(folder).rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
        program = "import time; t = time.perf_counter(); import lambda_function; print(time.perf_counter() - t)"
        environ = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": folder}
        command = [str(runtimes.available()[builder.runtime]), "-P", "-c", program]
        return float(subprocess.run(command, env=environ, check=True, capture_output=True).stdout)


Seconds = dict[str, dict[str, list[float]]]


def measure(tools: Sequence[Tool | YoDawg], project: str, rounds: int) -> tuple[Seconds, dict[str, int]]:
    """Return the seconds of each tool and kind, and the bytes of its zip."""
    seconds: Seconds = {tool.name: {kind: [] for kind in KINDS} for tool in tools}
    sizes: dict[str, int] = {}
    requirements, imports = PROJECTS[project]
    for number in range(rounds):
        for tool in tools:
            tool.forget()
            for kind in KINDS:
                change = "" if kind == "cold" else "# changed\n"
                code = f"# round {number} of {tool.name}\n{change}{imports}{HANDLER}"
                tool.lay_out({"requirements.txt": requirements, "lambda_function.py": code})
                began = time.perf_counter()
                sizes[tool.name] = tool.build(again=kind == KINDS[2])
                seconds[tool.name][kind].append(time.perf_counter() - began)
                print(f"{project} {number + 1} {tool.name} {kind}: {seconds[tool.name][kind][-1]:.2f} s", flush=True)
    return seconds, sizes


def table(project: str, seconds: Seconds, sizes: Mapping[str, int]) -> str:
    """Return the medians as a table."""
    lines = [f"| {project} | {' | '.join(KINDS)} | zip |", "|---" * 5 + "|"]
    for name, kinds in seconds.items():
        medians = (f"{statistics.median(times):.1f} s" for times in kinds.values())
        lines.append(f"| {name} | {' | '.join(medians)} | {sizes[name] / 1e6:.1f} MB |")
    return "\n".join(lines)


def plot(project: str, seconds: Seconds) -> str:
    """Return the medians as an SVG, legible on light and dark pages."""
    medians = {
        (name, kind): statistics.median(times) for name, kinds in seconds.items() for kind, times in kinds.items()
    }
    scale, rows, y = 440 / max(medians.values()), [], 34
    for kind in KINDS:
        rows.append(f'<text x="8" y="{y}" font-weight="bold">{kind}</text>')
        for name in seconds:
            y += 18
            width, colour = medians[name, kind] * scale, "#0a7d4f" if name == "yo-dawg" else "#8a8f98"
            rows.append(f'<text x="8" y="{y}">{name}</text>')
            rows.append(f'<rect x="80" y="{y - 11}" width="{max(width, 1):.0f}" height="13" fill="{colour}"/>')
            rows.append(f'<text x="{86 + width:.0f}" y="{y}">{medians[name, kind]:.1f} s</text>')
        y += 30
    style = "text{font:12px sans-serif;fill:#777}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="600" height="{y - 10}" role="img">'
    title = (
        f'<title>{project}: seconds per build</title><style>{style}</style><text x="8" y="14">{project}: seconds</text>'
    )
    return "\n".join([head, title, *rows, "</svg>", ""])


def verdicts(project: str, seconds: Seconds, starts: Mapping[bool, float], peak: int) -> list[str]:
    """Return what was to be reached, and what was."""
    ours = {kind: statistics.median(times) for kind, times in seconds["yo-dawg"].items()}
    limits: list[tuple[str, str, float]] = [
        ("cold", "SAM", 0.33), ("cold", "Chalice", 0.7), ("code changed", "SAM", 0.2), ("nothing changed", "SAM", 0.08),
    ] if project == "mid" else [("cold", "pip", 0.3)]  # fmt: skip
    lines = []
    for kind, other, limit in limits:
        if other in seconds:
            ratio = ours[kind] / statistics.median(seconds[other][kind])
            lines.append(f"{kind} against {other}: {ratio:.2f} (at most {limit}: {'yes' if ratio <= limit else 'no'})")
    lines.append(f"import of the handler: {starts[True]:.2f} s; without bytecode {starts[False]:.2f} s: "
                 f"{starts[True] / starts[False]:.2f}")  # fmt: skip
    lines.append(f"peak memory of the handler process: {peak / 1e6:.0f} MB")
    return lines


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", default="mid")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(TOOLS))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    report: list[str] = []
    with embedded_aws() as (aws, git), tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        builder = Builder(aws, git, RUNTIMES[-1])
        builder.install()
        builder.bootstrap()
        others = [Tool(name, Path(folder, name), builder) for name in options.only.split(",") if name]
        for project in options.projects.split(","):
            ours = YoDawg(builder)
            ours.rounds = 100 * len(report)
            seconds, sizes = measure([ours, *others], project, options.rounds)
            package = builder.package(ours.project)
            starts = {
                each: statistics.median(start_seconds(builder, package, bytecode=each) for _ in range(options.rounds))
                for each in (True, False)
            }
            (environment,) = aws.environments(builder.name)
            told = verdicts(project, seconds, starts, environment.peak_rss_bytes)
            report.append("\n".join([table(project, seconds, sizes), "", *(f"- {line}" for line in told), ""]))
            print(report[-1], flush=True)
            if options.write:
                (ROOT / "benchmarks" / f"{project}.svg").write_text(plot(project, seconds))
    if options.write:
        readme = ROOT / "README.md"
        before, _, rest = readme.read_text().partition("<!-- benchmark -->\n")
        after = rest.partition("<!-- end of benchmark -->")[2]
        text = "\n".join(report)
        readme.write_text(f"{before}<!-- benchmark -->\n{text}<!-- end of benchmark -->{after}")


if __name__ == "__main__":
    main()
