"""Java programs from Maven artifacts: fetched once, run from a folder of jars."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scale_assets.servers.errors import ServerUnavailable

OLDEST_JAVA = 17
FETCH_SECONDS = 900
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>jars</artifactId><version>1</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY = """
    <dependency>
      <groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>
    </dependency>"""


def find_java(server: str) -> str:
    """The program ``java``.

    Raises:
        ServerUnavailable: There is none, or it is too old.
    """
    way_out = f"run `apt-get install openjdk-{OLDEST_JAVA}-jre-headless`"
    java = shutil.which("java")
    if java is None:
        raise ServerUnavailable(server, why="there is no java on the path", way_out=way_out)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        why = f"it needs Java {OLDEST_JAVA}, and {java} says {said.splitlines()[:1]}"
        raise ServerUnavailable(server, why=why, way_out=way_out)
    return java


def fetch_jars(server: str, coordinates: Sequence[str], jars_dir: Path) -> Path:
    """The folder with these artifacts, ``group:artifact:version``, and all that they need.

    The first call asks Maven, which goes online for what its own cache lacks.

    Raises:
        ServerUnavailable: There is no Maven, or it cannot get them.
    """
    folder = jars_dir / "+".join(each.split(":", 1)[1].replace(":", "-") for each in coordinates)
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        way_out = f"run `apt-get install maven`, or copy the jars of {coordinates} into {folder}"
        raise ServerUnavailable(server, why="there is no mvn to fetch it with", way_out=way_out)
    jars_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars_dir, prefix=".fetch-") as work:
        listed = "".join(DEPENDENCY.format(*each.split(":")) for each in coordinates)
        Path(work, "pom.xml").write_text(POM.format(dependencies=listed))
        _copy_dependencies(server, maven, Path(work), coordinates)
        Path(work, "jars").rename(folder)
    return folder


def _copy_dependencies(server: str, maven: str, work: Path, coordinates: Sequence[str]) -> None:
    command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
    command.append(f"-DoutputDirectory={work / 'jars'}")
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
    )
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
        raise ServerUnavailable(
            server,
            why=f"mvn cannot fetch {', '.join(coordinates)}: {' '.join(errors[:2])}",
            way_out="let Maven reach a repository that has them (see ~/.m2/settings.xml)",
        )
