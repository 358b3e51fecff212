"""Hosts for tests: each has an address, an sshd, a process tree, a home and a /tmp of its own.

A host is a set of Linux namespaces (network, mount, PID, UTS, IPC), joined to the others through
a bridge without a way out. It sees this machine's system read-only, the tests' Python, and the
shared folder; nothing else of the checkout. Made for ``ray up`` with ``type: local``.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync",
            "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux",
            "make": "make"}  # fmt: skip
NETWORK = "10.83.7"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHARED = "/mnt/shared"  # where every host sees the shared folder

STAGE = "/srv"  # where a host prepares its mounts

# The mounts of a host before its sshd becomes its process 1. All that is needed from outside is
# bound below the stage first; then private folders take its place, and the rest is bound back.
BOOT = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs {stage}
cd {stage}
mkdir -p tmp run/sshd mnt/shared home
chmod 1777 tmp
number=0
for path in {keep}; do
    number=$((number + 1)); mkdir -p keep/$number
    mount --bind "$path" keep/$number
    mount -o remount,bind,ro {stage}/keep/$number
done
mount --bind {shared} mnt/shared
mount --bind {disk} home
install -m 600 {keys}/host {keys}/sshd_config run/
cp {keys}/hosts run/hosts
: > run/resolv.conf
mount --bind run/hosts /etc/hosts
mount --bind run/resolv.conf /etc/resolv.conf
mount -t tmpfs -o mode=755 tmpfs {hidden}
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs tmpfs /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
mount --rbind home /root
mount --rbind mnt /mnt
mount --rbind run /run
mount --rbind tmp /tmp
number=0
for path in {keep}; do
    number=$((number + 1)); mkdir -p "$path"; mount --bind keep/$number "$path"
done
mount -o remount,bind,ro /
hostname {name}
cd /root
exec env -i HOME=/root PATH={path} LANG=C.UTF-8 {sshd} -D -e -f /run/sshd_config
"""

SSHD = """ListenAddress {address}:22
HostKey /run/host
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
UseDNS no
"""


def explain_missing() -> str:
    """Return why hosts cannot be made here; empty if they can."""
    if sys.platform != "linux":
        return "hosts are made of Linux namespaces"
    if os.geteuid() != 0:
        return "making hosts needs root"
    packages = {p for name, p in PROGRAMS.items() if shutil.which(name, path=SYSTEM_PATH) is None}
    if packages:
        return f"hosts need the packages {', '.join(sorted(packages))}"
    probe = ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "true"]
    if subprocess.run(probe, capture_output=True).returncode:
        return "this machine does not allow new namespaces"
    return ""


def _call(*arguments: str, check: bool = True) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(arguments)}: {done.stderr.strip()}")


def delete_stale_namespaces() -> None:
    """Delete the network namespaces of processes that were killed before they could."""
    for entry in Path("/run/netns").glob("eh-*-*"):
        if not Path("/proc", entry.name.split("-")[1]).exists():
            _call("ip", "netns", "delete", entry.name, check=False)


@dataclass
class Host:
    """A host.

    Args:
        name: Its name.
        address: Its address.
        folder: Its keys and its disk with the home, which outlive a power cut.
        space: Its network namespace.
        process: Its process 1's parent here, while it is on.
    """

    name: str
    address: str
    folder: Path
    space: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def link(self) -> str:
        """Its port at the switch."""
        return f"port-{self.name}"

    @property
    def home(self) -> Path:
        """Its user's home, as seen from outside."""
        return self.folder / "home"

    @property
    def first(self) -> int:
        """The process number, outside, of its process 1."""
        assert self.process is not None, f"{self.name} is off"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text(encoding="utf-8").split()[0])


class Hosts:
    """Several hosts on one switch.

    Args:
        folder: The folder of keys, disks and the shared folder.
        names: The hosts' names.
        project: The checkout, hidden from hosts except for its Python environment.
    """

    def __init__(self, folder: Path, names: Sequence[str], project: Path) -> None:
        self.folder = folder
        self.project = project
        self.environment = (project / ".venv").resolve()
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        self._prefix = f"eh-{os.getpid()}-"
        self._switch = f"{self._prefix}switch"
        self.hosts = {
            name: Host(name, f"{NETWORK}.{10 + number}", folder / name, f"{self._prefix}{name}")
            for number, name in enumerate(names)
        }

    def up(self) -> None:
        """Make the switch and boot all hosts."""
        delete_stale_namespaces()
        self._key(self.folder / "user")
        _call("ip", "netns", "add", self._switch)
        switch = ["ip", "-n", self._switch]
        _call(*switch, "link", "add", "bridge", "type", "bridge")
        _call(*switch, "addr", "add", f"{NETWORK}.254/24", "dev", "bridge")
        _call(*switch, "link", "set", "bridge", "up")
        for host in self.hosts.values():
            self._wire(host)
            self._furnish(host)
            self.power_on(host.name)

    @staticmethod
    def _key(path: Path) -> None:
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path))

    def _wire(self, host: Host) -> None:
        inside = ["ip", "-n", host.space]
        _call("ip", "netns", "add", host.space)
        _call("ip", "-n", self._switch, "link", "add", host.link, "type", "veth",
              "peer", "name", "eth0", "netns", host.space)  # fmt: skip
        _call("ip", "-n", self._switch, "link", "set", host.link, "master", "bridge", "up")
        _call(*inside, "link", "set", "lo", "up")
        _call(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _call(*inside, "link", "set", "eth0", "up")
        # Ray finds its own address by the way it would take to the world.
        _call(*inside, "route", "add", "default", "via", f"{NETWORK}.254")
        # Ray asks a cloud's metadata server, which must fail at once.
        _call(*inside, "route", "add", "unreachable", "169.254.0.0/16")

    def _furnish(self, host: Host) -> None:
        """Write a host's keys and its home, with a Python environment that counts as installed."""
        keys, ssh = host.folder / "keys", host.home / ".ssh"
        keys.mkdir(parents=True)
        ssh.mkdir(parents=True, mode=0o700)
        self._key(keys / "host")
        (keys / "sshd_config").write_text(SSHD.format(address=host.address))
        names = "".join(f"{other.address} {other.name}\n" for other in self.hosts.values())
        (keys / "hosts").write_text("127.0.0.1 localhost\n" + names)
        shutil.copy(self.folder / "user.pub", ssh / "authorized_keys")
        (host.home / ".bashrc").touch()
        (host.home / ".bash_profile").write_text("source ~/.bashrc\n")
        environment = host.home / "evenhand" / ".venv"
        environment.mkdir(parents=True)
        for entry in self.environment.iterdir():
            (environment / entry.name).symlink_to(entry)
        marker = environment / ".installed"  # as new as can be, so that make has nothing to do
        marker.unlink(missing_ok=True)
        marker.touch()

    def power_on(self, name: str) -> None:
        """Boot a host; its home is what it was.

        Raises:
            RuntimeError: If its sshd does not answer within ten seconds.
        """
        host = self.hosts[name]
        keep = [self.environment, Path(sys.base_prefix)]
        script = BOOT.format(
            stage=STAGE, shared=self.shared, disk=host.home, keys=host.folder / "keys",
            hidden=self.project, keep=" ".join(shlex.quote(str(path)) for path in keep),
            name=name, path=SYSTEM_PATH, sshd=shutil.which("sshd", path=SYSTEM_PATH),
        )  # fmt: skip
        with (host.folder / "boot.log").open("ab") as log:
            host.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",  # should this process die, so does the host
                 "ip", "netns", "exec", host.space, "unshare", "--mount", "--pid", "--fork",
                 "--kill-child", "--uts", "--ipc", "--mount-proc", "bash", "-euc", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        asked = f"exec 3<>/dev/tcp/{host.address}/22"
        for _ in range(100):
            if not subprocess.run(
                ["ip", "netns", "exec", host.space, "bash", "-c", asked], capture_output=True
            ).returncode:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{name} does not boot: {(host.folder / 'boot.log').read_text()[-500:]}")

    def power_off(self, name: str) -> None:
        """Kill a host's process 1, and with it all its processes."""
        host = self.hosts[name]
        if host.process is not None:
            host.process.kill()  # unshare takes its child with it
            host.process.wait()
            host.process = None

    def cut(self, name: str) -> None:
        """Disconnect a host at the switch."""
        _call("ip", "-n", self._switch, "link", "set", self.hosts[name].link, "down")

    def heal(self, name: str) -> None:
        """Connect it again."""
        _call("ip", "-n", self._switch, "link", "set", self.hosts[name].link, "up")

    def sh(self, name: str, command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command as the host's user would, in a login shell."""
        # As process 1 of a session that is left behind is nobody's child, its output is a file.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
            done = subprocess.run(
                ["nsenter", "-t", str(self.hosts[name].first), "-m", "-n", "-p", "-u", "-i", "--",
                 "env", "-i", "HOME=/root", "USER=root", f"PATH={SYSTEM_PATH}", "LANG=C.UTF-8",
                 "TERM=xterm", "bash", "-lc", f"cd; {command}"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=timeout,
            )  # fmt: skip
            out.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, out.read())

    def down(self) -> None:
        """End all hosts and remove the switch; safe to call at any time."""
        for host in self.hosts.values():
            self.power_off(host.name)
            _call("ip", "netns", "delete", host.space, check=False)
        _call("ip", "netns", "delete", self._switch, check=False)


@contextmanager
def make_hosts(names: Sequence[str], project: Path) -> Iterator[Hosts]:
    """Make hosts for the block's duration."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    made = Hosts(folder, names, project)
    try:
        made.up()
        yield made
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)
