//! Where a tunnel listens: a port of the loopback, which every user of the machine can connect to, or a socket in a folder that only
//! the user who runs Terraform can enter.

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

/// The most connections that are passed on at a time. Each takes a few descriptors; further ones wait.
const CONNECTIONS: usize = 64;
/// Pause after a connection that could not be taken, such as where no descriptor is left; it doubles up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The socket's name. etcd's clients check a member's certificate for the last part of the path, and every member's is good for this one.
const SOCKET: &str = "localhost";

/// A client's connection.
pub type Stream = Either<TcpStream, UnixStream>;

/// A place where clients connect. It ends with its value, and so does the socket's folder.
#[derive(Debug)]
pub enum Listener {
    /// A port of 127.0.0.1.
    Port(TcpListener),
    /// A socket.
    Socket {
        /// What listens there.
        listener: UnixListener,
        /// The folder that the socket is in.
        folder: TempDir,
    },
}

impl Listener {
    /// Any port that is free.
    ///
    /// # Errors
    /// If the system has none.
    pub async fn port() -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map(Self::Port)
    }

    /// A socket in a new folder for temporary files, which no other user can enter.
    ///
    /// # Errors
    /// If the folder or the socket can't be made, with the path.
    pub fn socket() -> io::Result<Self> {
        let mut private = tempfile::Builder::new();
        private
            .prefix("etcd-tunnel-")
            .permissions(Permissions::from_mode(0o700));
        let folder = private.tempdir()?;
        let path = folder.path().join(SOCKET);
        let listener = UnixListener::bind(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Self::Socket { listener, folder })
    }

    /// Where to connect to: `127.0.0.1:40123`, or the socket's path.
    ///
    /// # Errors
    /// If the system doesn't say which port it is.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Port(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Socket { folder, .. } => Ok(path(folder).display().to_string()),
        }
    }

    async fn next(&self) -> io::Result<Stream> {
        match self {
            Self::Port(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
            Self::Socket { listener, .. } => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
        }
    }

    /// Takes connections until the end, and has each passed on.
    pub async fn accept<F>(self, ended: CancellationToken, pass: impl Fn(Stream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut pause = FIRST_PAUSE;
        let taking = async {
            loop {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                    return;
                };
                match self.next().await {
                    Ok(stream) => {
                        pause = FIRST_PAUSE;
                        let passing = pass(stream);
                        tokio::spawn(async move {
                            passing.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, ?pause, "the tunnel could not take a connection, and tries again after a pause");
                        sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = taking => {}
        }
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join(SOCKET)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};
    use tokio::time::timeout;

    use super::*;

    async fn echo(stream: Stream) {
        let (mut from, mut to) = split(stream);
        let _ = copy(&mut from, &mut to).await;
    }

    async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> u8 {
        stream.write_all(b"7").await.expect("written");
        stream.read_u8().await.expect("read")
    }

    #[tokio::test]
    async fn a_socket_is_in_a_folder_of_its_own_and_goes_with_it() {
        let listener = Listener::socket().expect("a socket");
        let address = PathBuf::from(listener.address().expect("a path"));
        assert!(address.is_absolute() && address.ends_with("localhost"), "{address:?}");
        let folder = address.parent().expect("a folder").to_owned();
        let mode = std::fs::metadata(&folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        let ended = CancellationToken::new();
        let accepting = tokio::spawn(listener.accept(ended.clone(), echo));
        assert_eq!(ask(UnixStream::connect(&address).await.expect("connected")).await, b'7');
        ended.cancel();
        accepting.await.expect("it ends");
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_a_place() {
        let listener = Listener::port().await.expect("a port");
        let address = listener.address().expect("a port");
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ended = CancellationToken::new();
        let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
        let pass = move |stream| {
            let (now, most) = (Arc::clone(&counted), Arc::clone(&highest));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                echo(stream).await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
        };
        tokio::spawn(listener.accept(ended.clone(), pass));
        let open = async |_: usize| TcpStream::connect(&address).await.expect("connected");
        let mut idle = join_all((0..CONNECTIONS).map(open)).await;
        let mut last = open(0).await;
        last.write_all(b"7").await.expect("written");
        let waiting = timeout(Duration::from_millis(300), last.read_u8()).await;
        assert!(waiting.is_err(), "one more than the limit was served");
        assert_eq!(now.load(Ordering::SeqCst), CONNECTIONS);
        idle.pop();
        let served = timeout(Duration::from_secs(5), last.read_u8()).await;
        assert_eq!(served.expect("it has a place now").expect("read"), b'7');
        assert_eq!(most.load(Ordering::SeqCst), CONNECTIONS);
        ended.cancel();
    }

    /// Processor time of this process in clock ticks (10 ms each).
    fn processor_ticks() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum()
    }

    /// In a process of its own, since it takes all descriptors.
    #[test]
    fn without_descriptors_it_waits_and_does_not_spin() {
        let this = std::env::current_exe().expect("this test");
        let name = concat!(module_path!(), "::without_descriptors");
        let (_, name) = name.split_once("::").expect("a crate");
        let ran = std::process::Command::new(this)
            .args(["--ignored", "--exact", name])
            .output();
        let ran = ran.expect("it runs");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    #[ignore = "without_descriptors_it_waits_and_does_not_spin runs it"]
    async fn without_descriptors() {
        let listener = Listener::port().await.expect("a port");
        let client = TcpStream::connect(listener.address().expect("a port"))
            .await
            .expect("connected");
        let asking = tokio::spawn(ask(client));
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        // One for reading the processor's time.
        let before = {
            taken.pop();
            let ticks = processor_ticks();
            taken.push(std::fs::File::open("/dev/null").expect("the one that was free"));
            ticks
        };
        tokio::spawn(listener.accept(CancellationToken::new(), echo));
        sleep(Duration::from_secs(2)).await;
        assert!(!asking.is_finished(), "a descriptor was left");
        taken.clear();
        let spent = processor_ticks() - before;
        assert!(spent < 20, "{spent} ticks in 2 s");
        let answer = timeout(Duration::from_secs(5), asking).await;
        assert_eq!(answer.expect("served once there are descriptors").expect("read"), b'7');
    }
}
