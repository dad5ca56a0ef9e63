//! The socket that Terraform connects to, and the connections it accepts.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::handshake::{Address, Listen};

/// How long a client may take for its side of the TLS handshake.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No socket file could be made.
    #[error(
        "listening on the unix socket {path} (a short PLUGIN_UNIX_SOCKET_DIR or TMPDIR that can be written to helps)"
    )]
    Unix {
        /// The socket file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The group of `PLUGIN_UNIX_SOCKET_GROUP` is unknown here, or may not be given to the socket.
    #[error("giving the socket to the group {group:?} (PLUGIN_UNIX_SOCKET_GROUP)")]
    Group {
        /// Name or number of the group.
        group: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Every port of the range is taken.
    #[error("no free port between {} and {} on 127.0.0.1 (PLUGIN_MIN_PORT, PLUGIN_MAX_PORT)", .ports.start(), .ports.end())]
    Tcp {
        /// The ports that were tried.
        ports: RangeInclusive<u16>,
        /// Why the last one failed.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens. A unix socket's file goes away with it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    #[cfg(unix)]
    Unix {
        listener: tokio::net::UnixListener,
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

/// Removes the socket file when dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have tidied the folder already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Starts to listen.
    ///
    /// # Errors
    /// When no socket can be made where `listen` says.
    pub async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        match listen {
            #[cfg(unix)]
            Listen::Unix { directory, group } => {
                bind_unix(&directory.clone().unwrap_or_else(std::env::temp_dir), group.as_deref())
            }
            #[cfg(not(unix))]
            Listen::Unix { .. } => bind_tcp(&(0..=0)).await,
            Listen::Tcp { ports } => bind_tcp(ports).await,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The connections that come in, over TLS if there is a configuration for it.
    ///
    /// A client that fails the TLS handshake is logged and dropped; the others don't wait for it.
    pub fn connections(self, tls: Option<Arc<ServerConfig>>) -> ReceiverStream<io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(8);
        let acceptor = tls.map(TlsAcceptor::from);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = self.accept() => accepted,
                    () = sender.closed() => return,
                };
                match accepted {
                    Ok(plain) => {
                        tokio::spawn(introduce(plain, acceptor.clone(), sender.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection");
                        // Out of file descriptors, for one, passes only with time.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn accept(&self) -> io::Result<Duplex> {
        match &self.socket {
            #[cfg(unix)]
            Socket::Unix { listener, .. } => Ok(Box::new(listener.accept().await?.0)),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

async fn introduce(plain: Duplex, acceptor: Option<TlsAcceptor>, sender: mpsc::Sender<io::Result<Connection>>) {
    let connection = match acceptor {
        None => Ok(plain),
        Some(acceptor) => match tokio::time::timeout(TLS_HANDSHAKE, acceptor.accept(plain)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream) as Duplex),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no TLS handshake within {} s", TLS_HANDSHAKE.as_secs())),
        },
    };
    match connection {
        // The receiver is gone only when the server ends.
        Ok(stream) => drop(sender.send(Ok(Connection(stream))).await),
        Err(error) => tracing::warn!(error, "refused a connection that isn't Terraform's"),
    }
}

#[cfg(unix)]
fn bind_unix(directory: &Path, group: Option<&str>) -> Result<Listener, ListenError> {
    use std::os::unix::fs::PermissionsExt as _;

    let nanoseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    let path = directory.join(format!("plugin{}-{nanoseconds}", std::process::id()));
    let unix = |source| ListenError::Unix {
        path: path.clone(),
        source,
    };
    let listener = tokio::net::UnixListener::bind(&path).map_err(unix)?;
    let file = SocketFile(path.clone());
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    if let Some(group) = group {
        let give = group_id(group).and_then(|id| std::os::unix::fs::chown(&path, None, Some(id)));
        give.map_err(|source| ListenError::Group {
            group: group.to_owned(),
            source,
        })?;
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(unix)?;
    Ok(Listener {
        address: Address {
            network: "unix",
            address: path.to_string_lossy().into_owned(),
        },
        socket: Socket::Unix { listener, _file: file },
    })
}

/// A group's number, from the number itself or from its name in `/etc/group`.
#[cfg(unix)]
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such group in /etc/group");
    let groups = std::fs::read_to_string("/etc/group")?;
    let line = groups
        .lines()
        .find(|line| line.split(':').next() == Some(group))
        .ok_or_else(unknown)?;
    line.split(':')
        .nth(2)
        .and_then(|id| id.parse().ok())
        .ok_or_else(unknown)
}

async fn bind_tcp(ports: &RangeInclusive<u16>) -> Result<Listener, ListenError> {
    let mut last = io::Error::from(io::ErrorKind::InvalidInput);
    for port in ports.clone() {
        match TcpListener::bind(("127.0.0.1", port))
            .await
            .and_then(|socket| Ok((socket.local_addr()?, socket)))
        {
            Ok((address, socket)) => {
                let address = Address {
                    network: "tcp",
                    address: address.to_string(),
                };
                return Ok(Listener {
                    socket: Socket::Tcp(socket),
                    address,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(ListenError::Tcp {
        ports: ports.clone(),
        source: last,
    })
}

/// What a connection can do, whichever kind it is.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Duplex = Box<dyn Stream>;

/// One connection of Terraform's.
pub struct Connection(Duplex);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let listen = Listen::Unix {
            directory: Some(directory.path().into()),
            group: None,
        };
        let listener = Listener::bind(&listen).await.unwrap();
        let path = PathBuf::from(&listener.address().address);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let listen = Listen::Unix {
            directory: Some("/nowhere".into()),
            group: None,
        };
        let error = Listener::bind(&listen).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/plugin"), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_group_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let group = Some("no-such-group".to_owned());
        let error = Listener::bind(&Listen::Unix {
            directory: Some(directory.path().into()),
            group,
        })
        .await;
        assert!(error.unwrap_err().to_string().contains("\"no-such-group\""));
    }

    #[tokio::test]
    async fn tcp_takes_the_first_free_port() {
        let first = Listener::bind(&Listen::Tcp { ports: 0..=0 }).await.unwrap();
        let taken: u16 = first.address().address.rsplit(':').next().unwrap().parse().unwrap();
        let error = Listener::bind(&Listen::Tcp { ports: taken..=taken }).await.unwrap_err();
        assert!(matches!(error, ListenError::Tcp { .. }));
    }
}
