//! Sockets of every kind: bound, accepting, connected.
//!
//! A vsock connection is carried by tokio's unix stream: both are stream sockets whose descriptors are read and written
//! alike, and only their addresses differ, which nobody asks for.

use crate::{address::Address, listen::BindError};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// Connections the kernel may hold ready; it lowers this to its own limit.
#[cfg(target_os = "linux")]
const BACKLOG: i32 = 1024;

/// How soon a silent peer is asked whether it lives, and how often again.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A socket that listens but is not yet part of an event loop.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
    Vsock(Socket),
}

/// A socket's file, removed at the end if it is still the one made here.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // A file that stays is found stale by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    pub(crate) fn bind(address: &Address) -> Result<Self, BindError> {
        match address {
            Address::Tcp { host, port } => bind_tcp(host, *port).map(Self::Tcp),
            Address::Unix(path) => {
                let bound = bind_unix(path).and_then(|listener| Ok((listener, SocketFile::new(path)?)));
                let (listener, file) =
                    bound.map_err(|source| BindError::bind(format!("unix {}", path.display()), source))?;
                Ok(Self::Unix(listener, Some(file)))
            }
            Address::Vsock(port) => {
                bind_vsock(*port).map(Self::Vsock).map_err(|source| BindError::bind(format!("vsock :{port}"), source))
            }
        }
    }

    /// Every socket that systemd opened for this process; they can be taken once.
    pub(crate) fn inherited() -> Result<Vec<Self>, BindError> {
        let mut given = listenfd::ListenFd::from_env();
        let sockets: Result<Vec<_>, _> =
            (0..given.len()).map(|index| take(&mut given, index).map_err(BindError::Inherited)).collect();
        let sockets = sockets?;
        if sockets.is_empty() { Err(BindError::NoInherited) } else { Ok(sockets) }
    }

    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            _ => None,
        }
    }

    /// The file that is removed at the end.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Unix(_, file) => file.as_ref().map(|file| file.path.clone()),
            _ => None,
        }
    }

    /// The address as logs show it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|error| error.to_string(), |at| at.to_string()),
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix:@".to_owned(), |path| format!("unix:{}", path.display()))
            }
            Self::Vsock(socket) => {
                let port = socket.local_addr().ok().and_then(|address| vsock_port(&address));
                port.map_or_else(|| "vsock://".to_owned(), |port| format!("vsock://:{port}"))
            }
        }
    }

    /// Makes the socket part of the running event loop.
    pub(crate) fn register(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Accepting::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
            Self::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Accepting::Unix { listener: tokio::net::UnixListener::from_std(listener)?, _file: file }
            }
            Self::Vsock(socket) => {
                socket.set_nonblocking(true)?;
                let ready = UnixStream::from_std(OwnedFd::from(socket.try_clone()?).into())?;
                Accepting::Vsock { socket, ready }
            }
        })
    }
}

fn take(given: &mut listenfd::ListenFd, index: usize) -> io::Result<Bound> {
    if let Ok(Some(listener)) = given.take_tcp_listener(index) {
        return Ok(Bound::Tcp(listener));
    }
    if let Ok(Some(listener)) = given.take_unix_listener(index) {
        return Ok(Bound::Unix(listener, None));
    }
    let (family, stream) = (VSOCK.into(), Type::STREAM.into());
    let socket = given.take_custom::<Socket>(index, family, stream, "listening tcp, unix or vsock stream socket")?;
    socket.map(Bound::Vsock).ok_or_else(|| io::Error::other("the descriptor was taken already"))
}

fn bind_tcp(host: &str, port: u16) -> Result<std::net::TcpListener, BindError> {
    if host.is_empty() {
        // Both families, or the old one alone where the new one is switched off.
        let bound = std::net::TcpListener::bind(("::", port)).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ => std::net::TcpListener::bind(("0.0.0.0", port)),
        });
        return bound.map_err(|source| BindError::bind(format!("tcp :{port}"), source));
    }
    let address = Address::resolve(host, port).map_err(BindError::Form)?;
    std::net::TcpListener::bind(address).map_err(|source| BindError::bind(format!("tcp {address}"), source))
}

/// Binds a path. A socket that nobody listens on any more, left by a killed process, makes room.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::{UnixListener, UnixStream};
    let error = match UnixListener::bind(path) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let stale = error.kind() == io::ErrorKind::AddrInUse
        && socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if !stale {
        return Err(error);
    }
    std::fs::remove_file(path)?;
    UnixListener::bind(path)
}

#[cfg(target_os = "linux")]
const VSOCK: Domain = Domain::VSOCK;
/// Nothing that systemd would pass elsewhere.
#[cfg(not(target_os = "linux"))]
const VSOCK: Domain = Domain::UNIX;

#[cfg(target_os = "linux")]
fn vsock_port(address: &SockAddr) -> Option<u32> {
    address.as_vsock_address().map(|(_, port)| port)
}

#[cfg(not(target_os = "linux"))]
fn vsock_port(_: &SockAddr) -> Option<u32> {
    None
}

#[cfg(target_os = "linux")]
fn bind_vsock(port: u32) -> io::Result<Socket> {
    /// Any context identifier of this machine.
    const ANY: u32 = u32::MAX;
    let socket = Socket::new(VSOCK, Type::STREAM, None)?;
    socket.bind(&SockAddr::vsock(ANY, port))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(not(target_os = "linux"))]
fn bind_vsock(_: u32) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A socket in an event loop.
#[derive(Debug)]
pub(crate) enum Accepting {
    Tcp(tokio::net::TcpListener),
    /// The file goes when accepting ends.
    Unix {
        listener: tokio::net::UnixListener,
        _file: Option<SocketFile>,
    },
    /// `ready` is the same socket as the event loop sees it; it is never read.
    Vsock {
        socket: Socket,
        ready: UnixStream,
    },
}

impl Accepting {
    /// The next connection. Dropping the future loses none.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                tune(&stream);
                Ok(Stream::Tcp(stream))
            }
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Vsock { socket, ready } => {
                let (accepted, _) = ready.async_io(Interest::READABLE, || socket.accept()).await?;
                accepted.set_nonblocking(true)?;
                let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(accepted));
                Ok(Stream::Unix(UnixStream::from_std(stream)?))
            }
        }
    }
}

/// Answers leave at once, and peers that vanished are noticed.
fn tune(stream: &TcpStream) {
    // A connection that cannot be tuned can still be served.
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
