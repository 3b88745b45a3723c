//! The system's message bus for the collectors that ask services: one connection that lasts, and a limit for every wait.
//!
//! Truth: <https://dbus.freedesktop.org/doc/dbus-specification.html>. The client is `zbus`, which needs a runtime; each
//! bus has a small one of its own, because collectors run on plain threads.

use crate::host::Failure;
use runtime::Clock;
use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use zbus::Connection;
use zbus::OwnedVariant;
use zbus::connection::Builder as Connect;
use zbus::message::Message;

/// How long connecting and each answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The system bus, `DBUS_SYSTEM_BUS_ADDRESS` or the usual socket.
    System,
    /// A socket on which a service itself listens.
    Peer(String),
}

/// A bus, connected when it is first needed.
#[derive(Debug)]
pub(crate) struct Bus {
    addresses: Vec<Address>,
    clock: Clock,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    // Dropped before the runtime on which it lives.
    connection: Connection,
    runtime: Runtime,
}

/// A service on a connection, for one round of questions.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    connection: Connection,
    clock: Clock,
    name: &'static str,
}

fn failed(call: &'static str, error: impl std::fmt::Display) -> Failure {
    Failure::Call { call, source: io::Error::other(error.to_string()) }
}

impl Bus {
    /// The first of the addresses that answers.
    pub(crate) fn new(addresses: Vec<Address>, clock: Clock) -> Bus {
        Bus { addresses, clock, open: Mutex::new(None) }
    }

    /// Runs one round of questions to a service. A connection that failed is not used again.
    pub(crate) fn with<T, F>(&self, name: &'static str, work: impl FnOnce(Service) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match slot.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let service = Service { connection: open.connection.clone(), clock: self.clock.clone(), name };
        let result = open.runtime.block_on(work(service));
        if result.is_ok() {
            *slot = Some(open);
        }
        result
    }

    fn connect(&self) -> Result<Open, Failure> {
        let call = "connecting to D-Bus";
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| failed(call, error))?;
        let mut last = failed(call, "no address");
        for address in &self.addresses {
            let builder = match address {
                Address::System => Connect::system(),
                Address::Peer(path) => Connect::address(format!("unix:path={path}").as_str()).p2p(),
            };
            let connected = async { self.clock.timeout(TIMEOUT, builder.build()).await };
            match runtime.block_on(connected) {
                Ok(Ok(connection)) => return Ok(Open { connection, runtime }),
                Ok(Err(error)) => last = failed(call, error),
                Err(elapsed) => last = failed(call, elapsed),
            }
        }
        Err(last)
    }
}

impl Service {
    /// Calls a method.
    pub(crate) async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &'static str,
        body: &B,
    ) -> Result<Message, Failure>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let call = self.connection.call_method(Some(self.name), path, Some(interface), method, body);
        match self.clock.timeout(TIMEOUT, call).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(failed("a D-Bus call", format!("{method}: {error}"))),
            Err(elapsed) => Err(failed("a D-Bus call", format!("{method}: {elapsed}"))),
        }
    }

    /// Reads one property.
    pub(crate) async fn property<T>(&self, path: &str, interface: &str, name: &str) -> Result<T, Failure>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: std::fmt::Display,
    {
        let message = self.call(path, PROPERTIES, "Get", &(interface, name)).await?;
        let value: OwnedVariant = message.body().deserialize().map_err(|error| failed("a D-Bus answer", error))?;
        T::try_from(value).map_err(|error| failed("a D-Bus answer", format!("{name}: {error}")))
    }
}

/// The body of an answer, as a type.
pub(crate) fn body<T>(message: &Message) -> Result<T, Failure>
where
    T: for<'d> zbus::wire::DynamicDeserialize<'d>,
{
    message.body().deserialize().map_err(|error| failed("a D-Bus answer", error))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::path::Path;
    use std::thread::JoinHandle;
    use zbus::MessageStream;

    /// Answers one client on a socket until it goes: `respond` gets path, method and the property asked for.
    pub(crate) fn serve<F>(path: &Path, respond: F) -> JoinHandle<()>
    where
        F: AsyncFn(&Connection, &Message, &str, &str, &str) + Send + 'static,
    {
        let listener = std::os::unix::net::UnixListener::bind(path).expect("socket");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            stream.set_nonblocking(true).expect("non-blocking");
            let runtime = Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let server = Connect::unix_stream(stream).server(zbus::Guid::generate()).p2p();
                let server = server.build().await.expect("server");
                let mut messages = MessageStream::from(&server);
                while let Some(Ok(message)) = messages.next().await {
                    let header = message.header();
                    let path = header.path().map(|path| path.to_string()).unwrap_or_default();
                    let method = header.member().map(|member| member.to_string()).unwrap_or_default();
                    let asked: (String, String) = message.body().deserialize().unwrap_or_default();
                    respond(&server, &message, &path, &method, &asked.1).await;
                }
            });
        })
    }

    #[test]
    fn a_bus_that_is_not_there() {
        let bus = Bus::new(vec![Address::Peer("/nowhere/at/all".to_owned())], Clock::system());
        let failure = bus.with("x", async |_| Ok(())).expect_err("no bus");
        assert!(failure.to_string().contains("connecting to D-Bus failed"), "{failure}");
    }
}
