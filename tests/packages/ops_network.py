"""Operations of packages for networks, databases, cryptography, C and the system."""

import asyncio
import functools
import threading

from cases import package, same


@package(
    "cryptography",
    "cryptography.fernet",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.ciphers.aead",
)
def cryptography():
    import datetime

    from cryptography import exceptions, fernet, x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    box = fernet.Fernet(fernet.Fernet.generate_key())
    same(box.decrypt(box.encrypt(b"secret" * 20)), b"secret" * 20)
    sealed = AESGCM(b"k" * 16).encrypt(b"n" * 12, b"data", b"head")
    same(AESGCM(b"k" * 16).decrypt(b"n" * 12, sealed, b"head"), b"data")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "atoll.test")])
    day = datetime.datetime(2024, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(day)
        .not_valid_after(day + datetime.timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    read = x509.load_pem_x509_certificate(certificate.public_bytes(serialization.Encoding.PEM))
    same((read.serial_number, read.subject), (5, name))
    signature = key.sign(b"text", ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, b"text", ec.ECDSA(hashes.SHA256()))
    try:
        key.public_key().verify(signature, b"other", ec.ECDSA(hashes.SHA256()))
        raise AssertionError("a wrong signature was accepted")
    except exceptions.InvalidSignature:
        pass


@package("bcrypt")
def bcrypt():
    import bcrypt as bc

    hashed = bc.hashpw(b"open sesame", bc.gensalt(4))
    same((bc.checkpw(b"open sesame", hashed), bc.checkpw(b"open", hashed)), (True, False))
    same(len(bc.kdf(b"password", b"salt", 16, 2, ignore_few_rounds=True)), 16)


@package("pynacl", "nacl.bindings", "nacl.public", "nacl.signing")
def pynacl():
    from nacl import exceptions, public, signing
    from nacl.hash import sha256

    one, two = public.PrivateKey.generate(), public.PrivateKey.generate()
    sealed = public.Box(one, two.public_key).encrypt(b"hello")
    same(public.Box(two, one.public_key).decrypt(sealed), b"hello")
    key = signing.SigningKey(b"s" * 32)
    same(key.verify_key.verify(key.sign(b"text")), b"text")
    same(sha256(b"abc")[:8], b"ba7816bf")
    try:
        key.verify_key.verify(b"x" * 70)
        raise AssertionError("a wrong signature was accepted")
    except exceptions.BadSignatureError:
        pass


@functools.cache
def c_library():
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(
        "size_t strlen(const char *); double sqrt(double);"
        "void qsort(void *, size_t, size_t, int (*)(const void *, const void *));"
        "typedef struct { int quot; int rem; } div_t; div_t div(int, int);"
    )
    return ffi, ffi.dlopen("libm.so.6"), ffi.dlopen(None)


@package("cffi", "cffi", "_cffi_backend")
def cffi():
    ffi, maths, c = c_library()
    same((c.strlen(b"atoll"), maths.sqrt(2.25)), (5, 1.5))
    parts = c.div(17, 5)
    same((parts.quot, parts.rem), (3, 2))

    @ffi.callback("int(const void *, const void *)")
    def compare(left, right):
        return ffi.cast("int *", left)[0] - ffi.cast("int *", right)[0]

    numbers = ffi.new("int[]", [5, 2, 9, 1])
    c.qsort(numbers, len(numbers), ffi.sizeof("int"), compare)
    same(list(numbers), [1, 2, 5, 9])
    handle = ffi.new_handle(numbers)
    assert ffi.from_handle(handle) is numbers
    freed = []
    ffi.gc(ffi.new("char[8]"), lambda _: freed.append(1))
    same(freed, [1])


@package("greenlet")
def greenlet():
    import greenlet as gl

    def worker(first):
        seen = [first]
        while len(seen) < 5:
            seen.append(main.switch(len(seen)))
        return seen

    main = gl.getcurrent()
    green = gl.greenlet(worker)
    same([green.switch("a"), *[green.switch(n) for n in range(3)]], [1, 2, 3, 4])
    same(green.switch("z"), ["a", 0, 1, 2, "z"])

    def broken():
        raise KeyError("inside")

    try:
        gl.greenlet(broken).switch()
        raise AssertionError("an exception was lost")
    except KeyError:
        pass
    unfinished = gl.greenlet(worker)
    unfinished.switch("left")  # and dropped


@package("gevent", "gevent", "gevent.pool", "gevent.queue", "gevent.socket", "gevent.threadpool")
def gevent():
    import gevent as ge
    from gevent import pool, queue, socket

    def serve(connection):
        with connection:
            connection.sendall(connection.recv(100).upper())

    left, right = socket.socketpair()
    server = ge.spawn(serve, right)
    with left:
        left.sendall(b"hello")
        same(left.recv(100), b"HELLO")
    server.join()
    tasks = queue.Queue()

    def produce():
        for n in range(5):
            ge.sleep(0.0002)
            tasks.put(n)
        tasks.put(StopIteration)

    producer = ge.spawn(produce)
    same(list(tasks), list(range(5)))
    producer.join()
    same(pool.Pool(3).map(lambda n: n * n, range(6)), [0, 1, 4, 9, 16, 25])
    timeout = ge.Timeout(0.001)
    try:
        with timeout:
            ge.sleep(5)
        raise AssertionError("no timeout")
    except ge.Timeout as caught:
        assert caught is timeout


async def echo() -> None:
    """Send a line through a server of the running loop, look up a name and call a function in a thread."""

    async def serve(reader, writer):
        writer.write((await reader.readline())[::-1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"atoll\n")
        same(await reader.read(), b"\nllota")
        writer.close()
        await writer.wait_closed()
    same(await asyncio.to_thread(pow, 2, 8), 256)
    same(await asyncio.gather(*[asyncio.sleep(0.0005, n) for n in range(4)]), [0, 1, 2, 3])


@package("uvloop", "uvloop", "uvloop.loop")
def uvloop():
    import uvloop as uv

    with asyncio.Runner(loop_factory=uv.new_event_loop) as runner:
        runner.run(echo())


@package("httptools")
def httptools():
    import httptools as ht

    class Request:
        def __init__(self):
            self.seen = {}

        def on_url(self, url):
            self.seen["url"] = ht.parse_url(url).path

        def on_header(self, name, value):
            self.seen[name.lower()] = value

        def on_body(self, body):
            self.seen["body"] = body

        def on_message_complete(self):
            self.seen["done"] = True

    request = Request()
    parser = ht.HttpRequestParser(request)
    for part in (b"POST /a?b=1 HTTP/1.1\r\nHost: x\r\nCon", b"tent-Length: 3\r\n\r\n", b"xyz"):
        parser.feed_data(part)
    same(request.seen, {"url": b"/a", b"host": b"x", b"content-length": b"3", "body": b"xyz", "done": True})
    same((parser.get_method(), parser.should_keep_alive()), (b"POST", True))
    try:
        ht.HttpRequestParser(Request()).feed_data(b"nonsense\r\n\r\n")
        raise AssertionError("nonsense was parsed")
    except ht.HttpParserError:
        pass


@package("pyzmq", "zmq", "zmq.backend.cython._zmq")
def pyzmq():
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as answers, context.socket(zmq.REQ) as questions:
        port = answers.bind_to_random_port("tcp://127.0.0.1")
        questions.connect(f"tcp://127.0.0.1:{port}")
        questions.send_json({"n": 5})
        same(answers.poll(20_000), zmq.POLLIN)
        answers.send_json({"square": answers.recv_json()["n"] ** 2})
        same(questions.recv_json(), {"square": 25})
        try:
            questions.recv(zmq.NOBLOCK)
            raise AssertionError("an answer without a question")
        except zmq.ZMQError as error:
            same(error.errno, zmq.EFSM)


@package("grpcio", "grpc", "grpc._cython.cygrpc", seconds=180)
def grpcio():
    from concurrent import futures

    import grpc

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == "/shop/buy":
                return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([request] * 3))

    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            same(channel.unary_unary("/shop/buy")(b"abc", timeout=30), b"cba")
            same(list(channel.unary_stream("/shop/list")(b"x", timeout=30)), [b"x"] * 3)
        server.stop(0).wait()


@package("psutil", "psutil")
def psutil():
    import os

    import psutil as ps

    me = ps.Process()
    same(me.pid, os.getpid())
    assert me.memory_info().rss > 1_000_000
    assert ps.virtual_memory().total > 0
    assert any(thread.id == me.pid for thread in me.threads())
    assert me.cpu_times().user >= 0
    assert ps.disk_usage("/").total > 0
    try:
        ps.Process(2**30)
        raise AssertionError("a process that cannot be")
    except ps.NoSuchProcess:
        pass


@package("aiohttp", "aiohttp", "aiohttp.web", "aiohttp._http_parser", "aiohttp._http_writer")
def aiohttp():
    import aiohttp as ah
    from aiohttp import web

    async def answer(request):
        return web.json_response({"got": await request.json(), "q": request.query["q"]})

    async def chat(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for said in socket:
            await socket.send_str(said.data.upper())
        return socket

    async def visit():
        application = web.Application()
        application.add_routes([web.post("/answer", answer), web.get("/chat", chat)])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ah.ClientSession() as session:
            async with session.post(base + "/answer?q=%C3%A9", json=[1, 2]) as response:
                same(await response.json(), {"got": [1, 2], "q": "é"})
            async with session.ws_connect(base + "/chat") as socket:
                await socket.send_str("hello")
                same((await socket.receive()).data, "HELLO")
        await runner.cleanup()

    asyncio.run(visit())


@package("yarl", "yarl", "yarl._quoting_c")
def yarl():
    from yarl import URL

    url = URL("http://example.test/a b/") / "ü" % {"q": "1&2"}
    same(str(url), "http://example.test/a%20b/%C3%BC?q=1%262")
    same((url.name, url.query["q"], url.parent.path), ("ü", "1&2", "/a b"))


@package("multidict", "multidict", "multidict._multidict")
def multidict():
    import multidict as md

    headers = md.CIMultiDict([("Accept", "a"), ("accept", "b")])
    headers.add("Host", "x")
    same((headers.getall("ACCEPT"), len(headers)), (["a", "b"], 3))
    same(sorted(md.CIMultiDictProxy(headers).keys(), key=str.lower)[-1], "Host")
    same(headers.popall("accept"), ["a", "b"])


@package("frozenlist")
def frozenlist():
    import importlib.util

    import frozenlist as fl

    if importlib.util.find_spec("frozenlist._frozenlist"):  # some versions have it in Python only
        same(fl.FrozenList.__module__, "frozenlist._frozenlist")
    items = fl.FrozenList([3, 1])
    items.append(2)
    items.freeze()
    same((sorted(items), hash(items) == hash(tuple(items))), ([1, 2, 3], True))
    try:
        items.append(4)
        raise AssertionError("a frozen list has grown")
    except RuntimeError:
        pass


@package("propcache", "propcache", "propcache._helpers_c")
def propcache():
    from propcache._helpers_c import cached_property, under_cached_property

    class Box:
        def __init__(self):
            self._cache = {}

        @under_cached_property
        def one(self):
            return [1]

        @cached_property
        def two(self):
            return [2]

    box = Box()
    assert box.one is box.one and box.two is box.two
    same((box.one, box.two), ([1], [2]))


@package("sqlalchemy", "sqlalchemy", "sqlalchemy.orm")
def sqlalchemy():
    import sqlalchemy as sa
    from sqlalchemy import orm, pool

    same(sa.util.has_compiled_ext(), True)
    base = orm.declarative_base()

    class Book(base):
        __tablename__ = "books"
        id = sa.Column(sa.Integer, primary_key=True)
        title = sa.Column(sa.String)
        price = sa.Column(sa.Numeric(8, 2))

    engine = sa.create_engine("sqlite://", poolclass=pool.StaticPool)
    base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all([Book(title=f"Volume {n}", price=n) for n in range(1, 6)])
        session.commit()
        same(session.scalar(sa.select(sa.func.sum(Book.price))), 15)
        found = session.scalars(sa.select(Book).where(Book.title.like("%4")).order_by(Book.id)).all()
        same([(book.id, str(book.price)) for book in found], [(4, "4.00")])
    engine.dispose()


@package("psycopg", "psycopg", "psycopg_binary._psycopg", needs=("psycopg-binary",))
def psycopg():
    import psycopg as pg
    from tiny_postgres import tiny_postgres

    same(pg.pq.__impl__, "binary")
    with tiny_postgres() as port:
        address = f"host=127.0.0.1 port={port} user=me dbname=db sslmode=disable gssencmode=disable"
        with pg.connect(address, autocommit=True, cursor_factory=pg.ClientCursor) as connection:
            row = connection.execute("select %s, %s", [42, "it's"]).fetchone()
            same(row, (42, "Zürich"))
    same(pg.adapt.Transformer().as_literal([1, None])[:10], b"'{1,NULL}'")
    try:
        pg.connect("host=127.0.0.1 port=1 connect_timeout=2", gssencmode="disable")
        raise AssertionError("a server where there is none")
    except pg.OperationalError:
        pass


@package("asyncpg", "asyncpg", "asyncpg.protocol.protocol")
def asyncpg():
    import asyncpg as pg
    from tiny_postgres import tiny_postgres

    async def talk(port):
        connection = await pg.connect(
            host="127.0.0.1", port=port, user="me", database="db", password="", ssl=False, timeout=30
        )
        try:
            same(await connection.execute("select"), "SELECT 1")
            same(connection.get_settings().TimeZone, "UTC")
        finally:
            connection.terminate()

    with tiny_postgres() as port:
        asyncio.run(talk(port))


# Django is configured once for an interpreter, whichever of its threads comes first.
_configuring = threading.Lock()


@package("Django", "django", "django.db.migrations.executor")
def django():
    import django as package
    from django.conf import settings

    with _configuring:
        if not settings.configured:
            memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
            apps = ["django.contrib.contenttypes", "django.contrib.auth"]
            settings.configure(DATABASES={"default": memory}, INSTALLED_APPS=apps)
            package.setup()
    from django.contrib.auth.models import Group, User
    from django.db import connection, models, transaction
    from django.db.migrations.executor import MigrationExecutor
    from django.template import Context, Engine

    # A thread's connection, and so its database in memory, are its own, and stay until its end.
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    with transaction.atomic():
        group = Group.objects.create(name="staff")
        for n in range(5):
            user = User.objects.create(username=f"user {n}", first_name="ABCDE"[n])
            user.groups.add(group)
        found = User.objects.filter(groups__name="staff", username__regex="[34]$").order_by("-username")
        same([user.first_name for user in found], ["E", "D"])
        same(group.user_set.aggregate(models.Max("username")), {"username__max": "user 4"})
        page = Engine().from_string("{% for user in users %}{{ user.first_name|lower }} {% endfor %}")
        same(page.render(Context({"users": found})), "e d ")
        transaction.set_rollback(True)
    same(User.objects.count(), 0)
