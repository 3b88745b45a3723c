"""What Python's client library does with gateways: clients.py PLAIN_URL TLS_URL MUTUAL_URL CERTIFICATE KEY USER PASSWORD.

Each call must succeed, or fail where it says so. What is left behind in the gateways is compared by the caller.
SSL_CERT_FILE is to name the certificate too.
"""

import sys
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Summary,
    delete_from_gateway,
    push_to_gateway,
    pushadd_to_gateway,
)
from prometheus_client.exposition import basic_auth_handler, tls_auth_handler

plain, tls, mutual, certificate, key, user, password = sys.argv[1:]


def refused(call):
    try:
        call()
    except Exception as error:
        return str(error)
    raise SystemExit("a push that should have been refused was taken")


def everything():
    registry = CollectorRegistry()
    Gauge("last_success_unixtime", "When it worked last.", registry=registry).set(1.7e9)
    runs = Counter("runs", "Runs, with \\ and \n in the help.", ["kind"], registry=registry)
    runs.labels('with "quotes" \\ and \n').inc(3)
    runs.labels("ö").inc(0.5)
    Summary("took_seconds", "How long.", registry=registry).observe(2.5)
    sizes = Histogram("size_bytes", "How large.", buckets=(1, 10, 100), registry=registry)
    sizes.observe(5)
    sizes.observe(5000)
    Info("build", "What was built.", registry=registry).info({"version": "1"})
    return registry


def value(name, number, **labels):
    registry = CollectorRegistry()
    gauge = Gauge(name, "A value.", list(labels), registry=registry)
    (gauge.labels(**labels) if labels else gauge).set(number)
    return registry


push_to_gateway(plain, job="everything", registry=everything())
push_to_gateway(plain, job="compressed", registry=everything(), compression="gzip")
push_to_gateway(plain, job="a/b c", registry=value("m", 1), grouping_key={"instance": "", "zone": "x+y", "path": "/var"})
push_to_gateway(plain, job="kept", registry=value("first", 1), grouping_key={"n": 1})
pushadd_to_gateway(plain, job="kept", registry=value("second", 2), grouping_key={"n": 1})
push_to_gateway(plain, job="replaced", registry=value("first", 1))
push_to_gateway(plain, job="replaced", registry=value("second", 2))
push_to_gateway(plain, job="deleted", registry=value("m", 1), grouping_key={"instance": "i"})
delete_from_gateway(plain, job="deleted", grouping_key={"instance": "i"})
delete_from_gateway(plain, job="never there")
typed = CollectorRegistry()
Counter("second", "Another type of the same name.", registry=typed).inc()
push_to_gateway(plain, job="counter", registry=typed)  # second_total is another name
clash = CollectorRegistry()
Gauge("runs_total", "A counter elsewhere.", registry=clash).set(1)
assert "400" in refused(lambda: push_to_gateway(plain, job="clash", registry=clash))


def by_password(word):
    return partial(basic_auth_handler, username=user, password=word)


by_certificate = partial(tls_auth_handler, certfile=certificate, keyfile=key, cafile=certificate)
for url, handler in ((tls, by_password(password)), (mutual, by_certificate)):
    push_to_gateway(url, job="secret", registry=value("m", 3), handler=handler)
    pushadd_to_gateway(url, job="secret", registry=value("n", 4), handler=handler)
    push_to_gateway(url, job="secret gone", registry=value("m", 3), handler=handler)
    delete_from_gateway(url, job="secret gone", handler=handler)
assert "401" in refused(lambda: push_to_gateway(tls, job="x", registry=value("m", 1), handler=by_password("wrong")))
assert "401" in refused(lambda: push_to_gateway(tls, job="x", registry=value("m", 1)))
refused(lambda: push_to_gateway(mutual, job="x", registry=value("m", 1)))
