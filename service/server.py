"""Running a server process: database, application, signals, a local worker."""

import asyncio
import gc
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version

import uvicorn
from sqlalchemy import make_url

from schedules.errors import InputError, UnavailableError
from service.app import Background, Services, Together, create_app
from service.auth import Auth, Scope, is_loopback, read_tokens
from service.db import migrate
from service.db.lock import exclusive
from service.db.notify import Channel
from service.db.store import Store
from service.events import Events
from service.local_worker import LocalWorker
from service.mlflow_sink import MlflowSink
from service.settings import Role, Settings
from tuner.sandbox import Sandbox

_GRACE_SECS = 5
_WORKER_DUE_SECS = 60.0
_CONNECTIONS = 65536
_SWITCH_SECS = 0.001
# Objects made between two collections of the youngest; Python's 700 are one request's.
_GC_THRESHOLD = 10_000


def serve(settings: Settings, *, with_worker: bool) -> None:
    """Serve until a signal asks to stop.

    Raises
    ------
    TunesmithError
        The server cannot start; the message says how to mend it.
    """
    auth = make_auth(settings)
    url = settings.resolved_database_url
    settings.data_dir.expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(url):
        prepare_database(settings)
        store = Store.open(url)
        try:
            if settings.role is Role.TUNER:
                _run_orchestrator(settings, store)
            else:
                _run_api(settings, auth, store, with_worker=with_worker)
        finally:
            store.close()


def make_auth(settings: Settings) -> Auth:
    """Read the tokens that the settings name.

    Raises
    ------
    InputError
        The token file is no good, or there is none and the server would be open to others.
    """
    if settings.token_file is not None:
        return Auth(read_tokens(settings.token_file))
    if settings.role is not Role.TUNER and not is_loopback(settings.host):
        raise InputError(
            f"{settings.host} can be reached from other machines, so tokens are needed: write one "
            "to a file and name it in TUNESMITH_TOKEN_FILE, or listen on 127.0.0.1"
        )
    return Auth(loopback_only=True)


def prepare_database(settings: Settings) -> None:
    """Bring an embedded database up to date; check a shared one.

    Raises
    ------
    UnavailableError
        A shared database is not as this version needs it: other servers may use it, so that
        upgrading it is for people to decide.
    """
    url = settings.resolved_database_url
    if settings.is_embedded:
        migrate.upgrade(url)
        return
    problems = migrate.check(url)
    if problems:
        raise UnavailableError(f"{problems[0]}; run `tunesmith db upgrade` when no server needs it")


def _orchestrator(
    settings: Settings, store: Store, events: Events, *, with_worker: bool
) -> Background:
    # It brings the search's packages, which a process that only answers requests does without.
    from service.cluster import ClusterPool
    from service.compute import SearchPool
    from service.learner import Learner
    from service.orchestrator import Orchestrator

    processes, cluster = settings.search_processes, settings.dask_scheduler
    quiet = with_worker or settings.is_embedded
    # What a cluster searches disturbs nothing here; what the learner does before it trains would.
    quiet_search = quiet and not cluster
    if settings.search_while_measuring is not None:
        quiet = quiet_search = not settings.search_while_measuring
    # The file lock keeps every other process out.
    owner = "embedded" if settings.is_embedded else None
    sink = None if settings.mlflow_uri is None else MlflowSink(store, settings.mlflow_uri)
    orchestrator = Orchestrator(
        store=store,
        events=events,
        pool=ClusterPool(cluster) if cluster else SearchPool(processes=processes),
        processes=processes,
        quiet=quiet_search,
        owner=owner,
        on_end=None if sink is None else sink.job_ended,
    )
    learner = Learner(
        store=store,
        pool=SearchPool(processes=1),
        quiet=quiet,
        automatic=settings.learn,
        scheduler=cluster or None,
        owner=owner,
    )
    # The sink first: those that use it end before it.
    return Together(*([] if sink is None else [sink]), orchestrator, learner)


@contextmanager
def _connected(events: Events, settings: Settings) -> Iterator[None]:
    """Share notifications with the other processes of a database, if there can be any."""
    if settings.is_embedded:
        yield
        return
    channel = Channel(settings.resolved_database_url, receive=events.receive, missed=events.missed)
    events.connect(channel.send)
    channel.start()
    try:
        yield
    finally:
        channel.stop()


def _run_orchestrator(settings: Settings, store: Store) -> None:
    stop = threading.Event()
    events = Events()
    orchestrator = _orchestrator(settings, store, events, with_worker=False)
    with _signals(lambda *_: stop.set()), _connected(events, settings):
        orchestrator.start()
        try:
            database = make_url(settings.resolved_database_url)
            _say(f"tunes for {database.render_as_string(hide_password=True)}")
            stop.wait()
        finally:
            orchestrator.stop()


def _run_api(settings: Settings, auth: Auth, store: Store, *, with_worker: bool) -> None:
    _allow_many_connections()
    # The loop's thread answers look-ups, and waits so long for each thread that is busy.
    sys.setswitchinterval(_SWITCH_SECS)
    listener = listen(settings.host, settings.port, shared=settings.share_port)
    server_url = _url(settings.host, listener.getsockname()[1])
    worker = None
    if with_worker:
        auth, token = auth.issue(Scope.MEASURE)
        token_file = None
        if not auth.open:
            token_file = settings.data_dir.expanduser() / "local-worker.token"
            # A restart makes a new token, which ends the old one.
            token_file.unlink(missing_ok=True)
            token_file.touch(mode=0o600)
            token_file.write_text(f"{token}\n", encoding="ascii")
        worker = LocalWorker(_url("127.0.0.1", listener.getsockname()[1]), token_file)
    with listener, closing(Sandbox()) as sandbox:
        services = Services.assemble(
            store=store,
            parser=sandbox,
            printer=sandbox,
            auth=auth,
            settings=settings,
            worker_due_secs=_WORKER_DUE_SECS if with_worker else 0.0,
        )
        background = None
        if settings.role is Role.ALL:
            background = _orchestrator(settings, store, services.events, with_worker=with_worker)
        config = uvicorn.Config(
            create_app(services, background=background),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECS,
            # Longer than the pauses between heartbeats.
            timeout_keep_alive=75,
            # Said rather than found out, so that an installation without them does not start slow.
            loop="uvloop",
            http="httptools",
        )
        with _connected(services.events, settings):
            _Server(config, services.events, server_url, worker).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn's server with a better end: waiting requests are answered, a signal is no error."""

    def __init__(
        self, config: uvicorn.Config, events: Events, url: str, worker: LocalWorker | None
    ) -> None:
        super().__init__(config)
        self._events = events
        self._url = url
        self._worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise UnavailableError("the server could not start; its log says why") from None
        _spare_the_collector()
        _say(f"serves {self._url}")
        if self._worker is not None:
            self._worker.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._worker is not None:
            # While the server still answers, so that it can give its lease back.
            await asyncio.to_thread(self._worker.stop)
        self._events.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn would raise the signal again and end the process by it.
        with _signals(self.handle_exit):
            yield


@contextmanager
def _signals(handler: Callable[..., None]) -> Iterator[None]:
    before = {kind: signal.signal(kind, handler) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, earlier in before.items():
            signal.signal(kind, earlier)


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Open a socket to serve on; port 0 takes a free one.

    Parameters
    ----------
    shared : bool
        Whether other processes that say the same may listen there too.

    Raises
    ------
    InputError
        There is no such address.
    UnavailableError
        It is in use, or not this machine's.
    """
    try:
        # With the protocol named, asyncio sets TCP_NODELAY; without, answers take 40 ms.
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"{host!r} is no address to listen on: {error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        # Two servers could bind, but not listen: find out before there is anything to undo.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with --port"
        ) from None
    return listener


def _allow_many_connections() -> None:
    """Use as many file descriptors as are allowed: each waiting worker holds a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, _CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _spare_the_collector() -> None:
    """Take what was made up to now, and stays, out of what the garbage collector looks through.

    It stops all threads for as long as it looks: some 300 ms for what the imports alone make.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(what: str) -> None:
    print(f"Tunesmith {version('tunesmith')} {what}", file=sys.stderr, flush=True)
