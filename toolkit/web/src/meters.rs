//! What serving counts about itself. Every label takes its values from an enum here, so no client can add series.

use metrics::{Counter, CounterVec, Gauge, Registry};

/// The label values of one counter family, fixed when the program was written.
pub(crate) trait Reason: Copy + 'static {
    const ALL: &'static [Self];
    fn label(self) -> &'static str;
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Reason for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

reasons! {
    /// Why a connection was closed before or while it was served.
    Slow {
        Head = "head",
        Idle = "idle",
        Body = "body",
        Write = "write",
    }
}

reasons! {
    /// Why no TLS session came about.
    Tls {
        Timeout = "timeout",
        PlainHttp = "plain_http",
        Config = "config",
        Client = "client_certificate",
        Protocol = "protocol",
    }
}

reasons! {
    /// Why a request was answered without its handler.
    Refused {
        Config = "config",
        RateLimit = "rate_limit",
        NoPassword = "no_password",
        WrongPassword = "wrong_password",
        Busy = "password_checks_busy",
        NoToken = "no_token",
        WrongToken = "wrong_token",
        Forbidden = "forbidden",
        Hidden = "path_not_allowed",
        Review = "review_failed",
        ReviewsBusy = "reviews_busy",
        BodySize = "body_size",
    }
}

/// One counter of a family per reason.
#[derive(Clone, Debug)]
pub(crate) struct Counters(CounterVec);

impl Counters {
    fn new<R: Reason>(registry: &Registry, name: &str, help: &str) -> Self {
        let family = registry.counter_vec(name, help, &["reason"]);
        for reason in R::ALL {
            // A series that is there from the start can be alerted on.
            family.with(&[reason.label()]);
        }
        Self(family)
    }

    pub(crate) fn inc<R: Reason>(&self, reason: R) {
        self.0.with(&[reason.label()]).inc();
    }
}

/// The instruments of one set of listeners.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pub(crate) open: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) held: Counter,
    pub(crate) accept_failures: Counter,
    pub(crate) panics: Counter,
    pub(crate) slow: Counters,
    pub(crate) tls: Counters,
    pub(crate) refused: Counters,
}

impl Meters {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            open: registry.gauge("narthex_http_connections", "Connections being served."),
            accepted: registry.counter("narthex_http_connections_accepted_total", "Connections accepted."),
            held: registry.counter(
                "narthex_http_connections_held_total",
                "Connections that had to wait because as many were open as are allowed.",
            ),
            accept_failures: registry
                .counter("narthex_http_accept_failures_total", "Times that the system could not accept a connection."),
            panics: registry
                .counter("narthex_http_handler_panics_total", "Requests whose handler panicked; each is a bug."),
            slow: Counters::new::<Slow>(
                registry,
                "narthex_http_slow_clients_total",
                "Connections and bodies given up because the client took too long.",
            ),
            tls: Counters::new::<Tls>(
                registry,
                "narthex_tls_handshake_failures_total",
                "Connections that never became TLS sessions.",
            ),
            refused: Counters::new::<Refused>(
                registry,
                "narthex_http_requests_refused_total",
                "Requests answered before their handler was asked.",
            ),
        }
    }
}

/// A gauge that is one higher while this lives, whatever ends it.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Open {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
