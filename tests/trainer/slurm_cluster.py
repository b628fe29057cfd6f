"""A real Slurm cluster on this machine, for a network of its own: nodes n1 and n2, and n3 with two pretended GPUs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.processes import eventually
from tests.trainer.namespace import HEAD, OTHER
from trainer.nodes import processes

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
_MARK = "TUNEGATE_TEST_CLUSTER"
_CONF = """\
ClusterName=test
SlurmctldHost=localhost({head})
SlurmctldPort=26817
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
MpiDefault=none
SlurmdTimeout=10
KillWait=5
MessageTimeout=3
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=localhost NodeAddr={head} Port=26821 CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname=localhost NodeAddr={other} Port=26822 CPUs=2 RealMemory=1000
NodeName=n3 NodeHostname=localhost NodeAddr={other} Port=26823 CPUs=2 RealMemory=1000 Gres=gpu:toy:2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n3 MaxTime=INFINITE State=UP
"""


class Slurm:
    """slurmctld, a slurmd for each node, and the munged by which they trust each other."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tgslurm"))  # short: there is a socket in it
        self.conf = self.folder / "slurm.conf"
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._configure()
            munge = self.folder / "munge"
            files = [f"--{name}-file={munge}/{name}" for name in ("key", "pid", "log", "seed")]
            self._start("munged", "munged", "--foreground", "--force", f"--socket={munge}/socket", *files)
            eventually((munge / "socket").exists, 30)
            self.lead()
            for name in ("n1", "n2", "n3"):
                self._start(name, "slurmd", "-D", "-N", name)
            self.complete()
        except BaseException:
            self.close()
            raise

    def lead(self) -> None:
        """Start slurmctld, again if it was ended."""
        self._start("slurmctld", "slurmctld", "-D")

    def join(self, name: str) -> None:
        """Start a node again, and wait for it."""
        self._start(name, "slurmd", "-D", "-N", name)
        self.complete()

    def complete(self) -> None:
        """Wait until slurmctld answers and all nodes are free."""

        deadline = time.monotonic() + 150  # a slurmctld that was ended hears late what was over meanwhile
        while True:
            told = subprocess.run(
                ["sinfo", "-h", "-N", "-o", "%T"], check=False, capture_output=True, text=True, env=self._environment()
            )
            if told.stdout.split() == ["idle"] * 3:
                return
            logs = "\n".join(path.read_text()[-1000:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, f"{told.stdout}{told.stderr}{logs}"
            time.sleep(0.2)

    def close(self) -> None:
        """End all of it."""
        for name in ("slurmctld", "n1", "n2", "n3", "munged"):
            processes.signal_all(self.pids(name), signal.SIGKILL)
        for process in self._processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self, name: str) -> list[int]:
        """Processes of `slurmctld`, `munged` or a node: Slurm's own, and no task's."""
        return processes.members({_MARK: f"{self.folder}/{name}"})

    def _configure(self) -> None:
        for name in ("state", "munge", "spool-n1", "spool-n2", "spool-n3"):
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "munge/key").write_bytes(os.urandom(1024))
        (self.folder / "munge/key").chmod(0o400)
        self.conf.write_text(_CONF.format(folder=self.folder, head=HEAD, other=OTHER))
        (self.folder / "gres.conf").write_text(
            "".join(f"NodeName=n3 Name=gpu Type=toy File=/dev/{device}\n" for device in ("zero", "null"))
        )

    def _environment(self, name: str = "") -> dict[str, str]:
        mine = {"HOME": str(self.folder), "SLURM_CONF": str(self.conf), _MARK: f"{self.folder}/{name}"}
        return {"PATH": f"{os.environ['PATH']}:/usr/sbin", **mine}

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self._environment(name), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
