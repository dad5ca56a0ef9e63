//! From a target to an authenticated link: name, TCP or bastion, handshake; and patience with a machine that is only being created.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout_at};

use super::authentication::{Refusal, Shown, establish};
use super::errors::ConnectError;
use super::known_hosts::HostKey;
use super::link::{Fate, Link};
use super::methods::{Offer, Reading};
use super::target::Target;

/// The longest that one attempt may take: a machine that drops packets must not eat all of the patience.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The longest that a machine may take to answer a dial: two of its packets may get lost (Linux sends them again after 1 s and 3 s).
/// One that is there answers in a round trip.
pub(super) const DIAL: Duration = Duration::from_secs(5);
/// Bytes that are carried at once between a TCP connection and its session.
const PUMPED: usize = 128 * 1024;
/// Pause between attempts at first; it grows to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long a name without an address is looked up again, as of a machine that is only being created.
const NAME: Duration = Duration::from_secs(30);
/// From one address of a name to the next when the first doesn't answer (RFC 8305 suggests 250 ms).
const NEXT_ADDRESS: Duration = Duration::from_millis(300);

/// The error of the machine that it is about, which may be a bastion.
fn innermost(error: &ConnectError) -> &ConnectError {
    match error {
        ConnectError::Bastion { source, .. } => innermost(source),
        other => other,
    }
}

/// Until when an error is hoped to pass. A name that was only just made may not be known everywhere yet; one that is misspelt never is.
fn waits_until(error: &ConnectError, started: Instant, deadline: Instant) -> Instant {
    match innermost(error) {
        ConnectError::Resolve { .. } => deadline.min(started + NAME),
        _ => deadline,
    }
}

/// One attempt after the other until `deadline`, when `retry`; else one.
pub(super) async fn with_patience<T, F>(
    server: &str,
    deadline: Instant,
    retry: bool,
    mut attempt: impl FnMut(Instant) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    let mut before: Option<ConnectError> = None;
    loop {
        attempts += 1;
        let until = if retry {
            deadline.min(Instant::now() + ATTEMPT)
        } else {
            deadline
        };
        let error = match attempt(until).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        if !retry || !error.may_pass() {
            return Err(error);
        }
        let deadline = waits_until(&error, started, deadline);
        let kind = std::mem::discriminant(innermost(&error));
        if before
            .as_ref()
            .is_none_or(|before| std::mem::discriminant(innermost(before)) != kind)
        {
            let up_to = deadline.saturating_duration_since(Instant::now()).as_secs();
            tracing::info!(server, %error, up_to_seconds = up_to, "waiting for the server, as for a machine that is being created");
        } else {
            tracing::debug!(server, attempts, %error, "not connected yet");
        }
        if Instant::now() + pause >= deadline {
            // An attempt that the end of all patience cut off says less than the one before it.
            let cut_off = until == deadline && matches!(error, ConnectError::TimedOut { .. });
            return Err(ConnectError::GaveUp {
                attempts,
                waited: started.elapsed(),
                last: Box::new(before.filter(|_| cut_off).unwrap_or(error)),
            });
        }
        before = Some(error);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The socket for an SSH session on top of a TCP connection. libssh2 gets one end of a pair of local sockets:
/// a local socket that polls as writable takes a whole packet, a TCP socket may not.
pub(super) async fn dial(target: &Target, fate: Arc<Fate>, until: Instant) -> Result<StdUnixStream, ConnectError> {
    let server = target.to_string();
    let asked = Instant::now();
    let timed_out = |step| ConnectError::TimedOut {
        server: server.clone(),
        step,
        waited: until.saturating_duration_since(asked),
    };
    let addresses: Vec<SocketAddr> = timeout_at(until, tokio::net::lookup_host((target.host.as_str(), target.port)))
        .await
        .map_err(|_| timed_out("resolving its name"))?
        .map_err(|error| ConnectError::Resolve {
            server: server.clone(),
            host: target.host.clone(),
            detail: error.to_string(),
        })?
        .collect();
    let dialled = Instant::now();
    let tcp = timeout_at(until.min(dialled + DIAL), first_to_answer(addresses))
        .await
        .map_err(|_| ConnectError::TimedOut {
            server: server.clone(),
            step: "opening a TCP connection",
            waited: dialled.elapsed(),
        })?
        .map_err(|error| ConnectError::Unreachable {
            server: server.clone(),
            detail: error.to_string(),
        })?;
    let unusable = |error: std::io::Error| ConnectError::Unreachable {
        server: server.clone(),
        detail: error.to_string(),
    };
    tcp.set_nodelay(true).map_err(unusable)?;
    pumped(tcp, fate).map_err(unusable)
}

/// The end of a pair of local sockets, whose other end is carried to and from the peer.
pub(super) fn pumped(
    peer: impl AsyncRead + AsyncWrite + Send + 'static,
    fate: Arc<Fate>,
) -> std::io::Result<StdUnixStream> {
    let (mine, theirs) = UnixStream::pair()?;
    tokio::spawn(pump(peer, mine, fate));
    blocking(theirs)
}

/// All addresses of a name, the next one starting before the last has failed. (Tunnels and sessions live on whichever came first.)
async fn first_to_answer(addresses: Vec<SocketAddr>) -> std::io::Result<TcpStream> {
    use futures::stream::{FuturesUnordered, StreamExt as _};
    let mut dials: FuturesUnordered<_> = addresses
        .into_iter()
        .zip(0u32..)
        .map(|(address, position)| async move {
            sleep(NEXT_ADDRESS * position).await;
            TcpStream::connect(address).await
        })
        .collect();
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    while let Some(result) = dials.next().await {
        match result {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Carries bytes between the peer and the session, until either ends or the peer has sent too much.
async fn pump(peer: impl AsyncRead + AsyncWrite, local: UnixStream, fate: Arc<Fate>) {
    let (from_peer, mut to_peer) = tokio::io::split(peer);
    let (from_session, mut to_session) = local.into_split();
    let mut from_peer = BufReader::with_capacity(PUMPED, from_peer);
    let mut from_session = BufReader::with_capacity(PUMPED, from_session);
    let coming = async {
        while fate.ended().is_none() {
            let bytes = from_peer.fill_buf().await?;
            let count = bytes.len();
            if count == 0 {
                break;
            }
            fate.came(count);
            to_session.write_all(bytes).await?;
            from_peer.consume(count);
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::select! {
        result = coming => match result {
            Ok(()) => fate.seal("the server closed the connection"),
            Err(error) => fate.seal(error.to_string()),
        },
        result = copy_buf(&mut from_session, &mut to_peer) => if let Err(error) = result {
            fate.seal(error.to_string());
        },
    }
}

/// libssh2 shakes hands in blocking mode.
fn blocking(stream: UnixStream) -> std::io::Result<StdUnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Handshake and authentication over `socket`; gives up at `until`.
pub(super) async fn log_in(
    target: &Target,
    socket: StdUnixStream,
    fate: Arc<Fate>,
    until: Instant,
    seen_before: Option<HostKey>,
    spare_channel: bool,
) -> Result<(Link, Shown), Refusal> {
    let server = target.to_string();
    let asked = Instant::now();
    let broken = |error: std::io::Error| ConnectError::Broken {
        server: server.clone(),
        step: "preparing",
        detail: error.to_string(),
    };
    let breaker = Breaker(Some(socket.try_clone().map_err(broken)?));
    let watched = socket.try_clone().map_err(broken)?;
    let time = until.saturating_duration_since(asked).max(Duration::from_millis(1));
    let owned = target.clone();
    let thread = tokio::task::spawn_blocking(move || establish(&owned, socket, time, seen_before.as_ref()));
    let timed_out = || ConnectError::TimedOut {
        server: server.clone(),
        step: "shaking hands and authenticating",
        waited: time,
    };
    let (session, shown) = timeout_at(until, thread)
        .await
        .map_err(|_| timed_out())?
        .map_err(|error| ConnectError::Broken {
            server: server.clone(),
            step: "shaking hands",
            detail: error.to_string(),
        })?
        // What libssh2 makes of an end that is our doing says nothing.
        .map_err(|error| match fate.ended() {
            Some(reason) => Refusal::from(ConnectError::Broken {
                server: server.clone(),
                step: "shaking hands and authenticating",
                detail: reason.to_owned(),
            }),
            None => error,
        })?;
    fate.logged_in();
    let link = Link::start(session, watched, target.keep_alive, fate, spare_channel).map_err(broken)?;
    breaker.keep();
    Ok((link, shown))
}

/// Asks a machine, over a fresh socket, which methods it offers, after a handshake found none in common. `None` if that is not the reason.
pub(super) async fn compare_methods(target: &Target, socket: StdUnixStream, until: Instant) -> Option<ConnectError> {
    socket.set_nonblocking(true).ok()?;
    let mut socket = UnixStream::from_std(socket).ok()?;
    let asking = async {
        socket.write_all(b"SSH-2.0-terraform_provider_etcd\r\n").await.ok()?;
        let mut bytes = Vec::new();
        loop {
            match Offer::read(&bytes) {
                Reading::Whole(offer) => return Some(offer.gaps()),
                Reading::Nonsense => return None,
                Reading::Incomplete => {}
            }
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
    };
    let gaps = timeout_at(until.min(Instant::now() + DIAL), asking)
        .await
        .ok()
        .flatten()?;
    (!gaps.is_empty()).then(|| ConnectError::NothingInCommon {
        server: target.to_string(),
        gaps,
    })
}

/// Ends the connection when its maker gives up: the thread that blocks on it then returns.
struct Breaker(Option<StdUnixStream>);

impl Breaker {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // It may be gone already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_an_address_is_not_waited_for_as_long_as_a_machine() {
        let (server, detail) = ("a".to_owned(), "no".to_owned());
        let resolve = ConnectError::Resolve {
            server: server.clone(),
            host: "a.example".to_owned(),
            detail: detail.clone(),
        };
        let refused = ConnectError::Unreachable {
            server: server.clone(),
            detail,
        };
        let bastion = ConnectError::Bastion {
            server: server.clone(),
            source: Box::new(resolve.clone()),
        };
        let unusable = ConnectError::Unusable {
            server,
            tried: Vec::new(),
            offered: "publickey".to_owned(),
        };
        let started = Instant::now();
        let deadline = started + Duration::from_secs(300);
        let waits = |error: &ConnectError| waits_until(error, started, deadline) - started;
        assert_eq!(waits(&resolve), NAME);
        assert_eq!(waits(&bastion), NAME);
        assert_eq!(waits(&refused), Duration::from_secs(300));
        assert_eq!(waits_until(&resolve, started, started), started, "never longer");
        assert!(!unusable.may_pass(), "no waiting makes a key readable");
    }

    #[tokio::test]
    async fn an_attempt_that_was_cut_off_does_not_hide_the_reason() {
        let refused = || ConnectError::Authentication {
            server: "a".to_owned(),
            tried: Vec::new(),
            offered: "publickey".to_owned(),
        };
        let mut attempts = 0;
        let deadline = Instant::now() + Duration::from_millis(600);
        let gave_up = with_patience("a", deadline, true, |until| {
            attempts += 1;
            let first = attempts == 1;
            async move {
                if first {
                    return Err::<(), _>(refused());
                }
                tokio::time::sleep_until(until).await;
                Err(ConnectError::TimedOut {
                    server: "a".to_owned(),
                    step: "shaking hands",
                    waited: Duration::ZERO,
                })
            }
        });
        let error = gave_up.await.expect_err("never let in");
        assert!(
            matches!(&error, ConnectError::GaveUp { last, attempts: 2, .. } if matches!(**last, ConnectError::Authentication { .. })),
            "{error}"
        );
    }
}
