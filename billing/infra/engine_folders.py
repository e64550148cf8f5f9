"""Where an embedded engine keeps its data and its socket, who owns them, and that only one process at a time uses them."""

import contextlib
import fcntl
import hashlib
import os
import pwd
import stat
from pathlib import Path

from billing.errors import Misconfigured
from billing.infra.child import SAME_IDENTITY, Identity, can_become, processes_in, wait_until

SOCKET_ROOT = Path("/tmp")  # noqa: S108 - short and the same for every process; what we make in it is checked below
SOCKET_PATH_BYTES_MAX = 107
"""unix(7): sun_path holds 108 bytes, the last of them 0."""
SOCKET_NAME_BYTES_MAX = len("/.s.PGSQL.5432")
PREDECESSOR_TIMEOUT_S = 30.0
"""How long a server whose parent was killed may take to shut down before a restart gives up."""

_STAND_INS = ("postgres", "nobody")
_ANYONE_EXECUTES = stat.S_IXGRP | stat.S_IXOTH


class FolderLock:
    """One engine folder's lock, held for as long as this process uses the folder.

    The kernel drops it when the process ends, however it ends, so it is never stale. The file names its last holder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __repr__(self) -> str:
        return f"FolderLock({str(self._path)!r}, {'free' if self._descriptor is None else 'held'})"

    def acquire(self) -> bool:
        """Take the lock unless another process has it."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return True

    def holder(self) -> str:
        """The process id of the last process that took the lock, as text."""
        return self._path.read_text("ascii")

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def claim(lock: FolderLock, folder: Path, program: str) -> None:
    """Make this process the only user of an engine folder.

    A server whose parent was killed is shutting down: it is waited for. Raises ``Misconfigured`` when another process
    holds the folder, or when a server in it does not end.
    """
    servers = processes_in(folder, program)
    if not lock.acquire():
        raise Misconfigured(
            f"{folder} is in use by process {lock.holder()} ({program}: process {_joined(servers)}): "
            "stop that process, or choose another --data-dir"
        )
    if not wait_until(lambda: not processes_in(folder, program), PREDECESSOR_TIMEOUT_S):
        lock.release()
        servers = processes_in(folder, program)
        raise Misconfigured(
            f"{program} process {_joined(servers)} still serves {folder}, started by somebody else: "
            f"end it with `kill -INT {servers[0]}`, or choose another --data-dir"
        )


def _joined(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "not started yet"


def make_data_folder(folder: Path) -> None:
    """Create the data folder, closed to others.

    Raises ``Misconfigured`` where it cannot be made, and when this is root but another user owns the folder: that
    user could put links in root's way.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise Misconfigured(
            f"data folder {folder}: {error.strerror} ({error.filename}): choose another --data-dir"
        ) from error
    if os.geteuid() == 0 and owner != 0:
        raise Misconfigured(
            f"data folder {folder} belongs to user {owner}: run as that user, or choose another --data-dir"
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise Misconfigured(
            f"data folder {folder} is closed to user {os.geteuid()}: choose another --data-dir"
        )


def server_identity(folder: Path) -> Identity:
    """Whom PostgreSQL runs as: it refuses root, and its initdb refuses a user without a name.

    An ordinary user: as is. Otherwise inside a user namespace, where nothing outside changes owner; where the
    container refuses those, root hands ``folder`` to an account that exists, and keeps to it. Raises
    ``Misconfigured`` when none of them is possible.
    """
    user = os.geteuid()
    if user == 0 and folder.exists() and folder.stat().st_uid != 0:
        return Identity("account", folder.stat().st_uid, folder.stat().st_gid)
    if user != 0 and _account(user) is not None:
        return SAME_IDENTITY
    stand_in = next(filter(None, map(_account, _STAND_INS)), None)
    if stand_in is not None and can_become(inside := Identity("namespace", stand_in.pw_uid, stand_in.pw_gid)):
        return inside
    if stand_in is not None and user == 0:
        return Identity("account", stand_in.pw_uid, stand_in.pw_gid)
    raise Misconfigured(
        f"PostgreSQL cannot run as user {user}: /etc/passwd has no entry for it (or for one of {', '.join(_STAND_INS)} "
        "to stand in) and user namespaces are refused; add an entry, or set DATABASE_URL"
    )


def _account(user: int | str) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    return None


def owner_of(identity: Identity) -> int:
    """The user id that the files of a server with this identity have, seen from here."""
    return identity.uid if identity.kind == "account" else os.geteuid()


def hand_over(folder: Path, identity: Identity) -> None:
    """Make a folder of ours, with all that is in it, the account's; nothing to do for other identities.

    Of the folders above, only the data folder itself is opened for passing through. Raises ``Misconfigured`` when the
    account cannot pass another one.
    """
    if identity.kind != "account":
        return
    above = folder.parent
    above.chmod(stat.S_IMODE(above.stat().st_mode) | _ANYONE_EXECUTES)
    require_passable(folder.parent, identity)
    if folder.stat().st_uid == identity.uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), identity.uid, identity.gid, follow_symlinks=False)
    os.chown(folder, identity.uid, identity.gid)  # last: a hand-over that was cut short is begun again


def require_passable(path: Path, identity: Identity) -> None:
    """Raise ``Misconfigured`` when an account cannot reach ``path``: it names the first folder that is closed to it."""
    if identity.kind != "account":
        return
    for folder in reversed([path, *path.parents]):
        if not _may_pass(folder.stat(), identity):
            raise Misconfigured(
                f"this container refuses user namespaces, so PostgreSQL must run as user {identity.uid}, to whom {folder} "
                f"(on the way to {path}) is closed: `chmod o+x {folder}`, or use another place, or set DATABASE_URL"
            )


def _may_pass(folder: os.stat_result, identity: Identity) -> bool:
    if folder.st_uid == identity.uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    return bool(folder.st_mode & (stat.S_IXGRP if folder.st_gid == identity.gid else stat.S_IXOTH))


def folder_digest(data_dir: Path) -> str:
    """What tells the socket folders of different data folders apart: 16 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def socket_folder(data_dir: Path, owner: int, root: Path = SOCKET_ROOT) -> Path:
    """The short folder for the sockets of the engines in ``data_dir``: always the same one, entered by ``owner`` only.

    Whoever can enter it is a database superuser, so one that another user made beforehand is refused
    (``Misconfigured``), as is a root that makes socket paths too long.
    """
    folder = root / f"billing-{owner}-{folder_digest(data_dir)}"
    if len(os.fsencode(folder)) + SOCKET_NAME_BYTES_MAX > SOCKET_PATH_BYTES_MAX:
        raise Misconfigured(
            f"socket folder {folder} is too long: a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes"
        )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or stat.S_IMODE(found.st_mode) != stat.S_IRWXU
        or found.st_uid not in {owner, os.geteuid()}
    ):
        raise Misconfigured(
            f"{folder} is not a folder of mode 700 that belongs to user {owner} (found {stat.filemode(found.st_mode)}, "
            f"user {found.st_uid}): another user may have made it; remove it"
        )
    if found.st_uid != owner:
        os.chown(folder, owner, -1)
    return folder
