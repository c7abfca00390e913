"""How this project configures Spark: plain settings for one session, and the Java it needs."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from scale_assets.errors import ScaleError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MIN_JAVA = 17

QUIET_LOGS = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


class JavaMissing(ScaleError):
    """Spark runs on Java, and none that is new enough was found."""


def require_java() -> int:
    """Return the major version of the Java that Spark will start.

    Raises:
        JavaMissing: None is found, or it is older than 17; the message carries install commands.
    """
    java = _java_program()
    if java is None:
        raise JavaMissing(_how_to_install("no Java was found"))
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    if found is None:
        raise JavaMissing(_how_to_install(f"{java} did not tell its version"))
    major = int(found.group(1))
    if major < MIN_JAVA:
        raise JavaMissing(_how_to_install(f"{java} is Java {major}"))
    return major


def _java_program() -> str | None:
    home = os.environ.get("JAVA_HOME")  # Spark looks here first, and only then on PATH
    if home:
        return shutil.which("java", path=str(Path(home) / "bin"))
    return shutil.which("java")


def _how_to_install(problem: str) -> str:
    return (
        f"Spark needs Java {MIN_JAVA} or newer, but {problem}. Install it with one of: "
        "`sudo apt-get install openjdk-17-jre-headless` (Debian, Ubuntu), "
        "`brew install openjdk@17` (macOS), `conda install -c conda-forge openjdk=17` (conda); "
        "or point JAVA_HOME at one."
    )


def spark_config(
    *,
    master: str,
    driver_memory: str,
    scratch_dir: Path,
    shuffle_partitions: int | None = None,
    show_ui: bool = False,
) -> dict[str, str]:
    """Settings of the process's one session; also makes the scratch folders that they name.

    Args:
        master: ``local[*]``, ``spark://host:7077``, ``yarn``, ...
        driver_memory: Heap of the driver as Spark writes it; only the first session of a
            process can set it.
        scratch_dir: Spill, warehouse and Derby files go here, never into the working directory.
        shuffle_partitions: Tasks per shuffle; None means 4 on a local master (its tables are
            small) and the cluster's own setting elsewhere.
        show_ui: Serve Spark's web page on loopback.
    """
    scratch_dir = scratch_dir.resolve()
    for folder in ("local", "warehouse", "derby"):
        (scratch_dir / folder).mkdir(parents=True, exist_ok=True)
    logs = scratch_dir / "log4j2.properties"
    if not logs.exists() or logs.read_text() != QUIET_LOGS:
        logs.write_text(QUIET_LOGS)
    is_local = master.startswith("local")
    config = {
        "spark.master": master,
        "spark.app.name": "scale-assets",
        "spark.driver.memory": driver_memory,
        "spark.driver.extraJavaOptions": (
            f"-Duser.timezone=UTC -Dderby.system.home={scratch_dir / 'derby'} "
            f"-Dlog4j2.configurationFile={logs}{' -XX:+UseSerialGC -XX:-ShrinkHeapInSteps' if is_local else ''}"
        ),
        "spark.ui.enabled": str(show_ui).lower(),
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": str(scratch_dir / "local"),
        "spark.sql.warehouse.dir": str(scratch_dir / "warehouse"),
        **_TABLE_SETTINGS,
    }
    if is_local:
        config |= _LOCAL_SETTINGS
        shuffle_partitions = shuffle_partitions or 4
    if shuffle_partitions is not None:
        config["spark.sql.shuffle.partitions"] = str(shuffle_partitions)
    return config


_TABLE_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    # INT96, the default, has no statistics and no time zone
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # else the partition "01" reads as 1
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # where a column was written in Python, for error messages; costs a round trip per expression
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    # the staged folder is private until the Delta commit, so task output may appear at once
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}

_LOCAL_SETTINGS = {
    # without a checksum file, and a `chmod` forked for it, beside each file
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # listing a few hundred local files takes less than starting a job to list them
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "100000",
}


def spark_session(
    *,
    master: str,
    driver_memory: str,
    scratch_dir: Path,
    shuffle_partitions: int | None = None,
    show_ui: bool = False,
) -> "SparkSession":
    """Start Spark, or return the session that this process already runs.

    Raises:
        JavaMissing: No Java 17 or newer.
    """
    from pyspark.sql import SparkSession

    require_java()
    builder = SparkSession.builder
    for name, value in spark_config(
        master=master,
        driver_memory=driver_memory,
        scratch_dir=scratch_dir,
        shuffle_partitions=shuffle_partitions,
        show_ui=show_ui,
    ).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def give_back_memory(session: "SparkSession") -> None:
    """Have a local master's JVM return the heap that it does not use.

    It grows to its limit over the first large table and would keep that for the rest of the
    process, beside whatever trains next. Only a full collection shrinks it: 0.1 to 0.3 s.
    """
    context = session.sparkContext
    if context.master.startswith("local"):
        context._jvm.java.lang.System.gc()  # noqa: SLF001
