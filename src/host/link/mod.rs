//! One SSH connection: a thread that owns libssh2's session, and the handle to it.
//!
//! Every channel is a pair of local sockets: the thread carries bytes between its end and libssh2, the caller has the other end as an
//! ordinary tokio stream. So flow control is the system's, and nobody but the thread touches libssh2, which isn't made for several hands.

mod carrier;
mod fate;
mod lane;

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use carrier::Carrier;
pub use fate::Fate;

/// An authenticated connection. Dropping it ends it.
#[derive(Debug)]
pub struct Link {
    commands: Option<Sender<Command>>,
    waker: StdUnixStream,
    fate: Arc<Fate>,
}

/// What a channel leads to.
#[derive(Debug)]
enum Destination {
    Command(String),
    Tcp { host: String, port: u16 },
}

#[derive(Debug)]
struct Command {
    destination: Destination,
    local: StdUnixStream,
    local_stderr: Option<StdUnixStream>,
    opened: oneshot::Sender<Result<(), String>>,
}

/// A command that runs over there. Bytes may be written before it is known to run: they travel along.
#[derive(Debug)]
pub struct RemoteCommand {
    /// Its standard input and output.
    pub stdio: UnixStream,
    /// Its standard error.
    pub stderr: UnixStream,
    /// Whether it could be started; the error is the peer's or libssh2's.
    pub started: oneshot::Receiver<Result<(), String>>,
}

impl Link {
    /// Takes over an authenticated session, whose socket is `socket` (a clone of the session's own).
    ///
    /// # Errors
    /// When the system has no more sockets or threads.
    pub fn start(
        session: ssh2::Session,
        socket: StdUnixStream,
        keep_alive: Duration,
        fate: Arc<Fate>,
        spare_channel: bool,
    ) -> io::Result<Self> {
        let (waker, woken) = StdUnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (commands, receiver) = std::sync::mpsc::channel();
        let carrier = Carrier::new(
            session,
            socket,
            receiver,
            woken,
            keep_alive,
            Arc::clone(&fate),
            spare_channel,
        );
        std::thread::Builder::new()
            .name("ssh".to_owned())
            .spawn(move || carrier.run())?;
        Ok(Self {
            commands: Some(commands),
            waker,
            fate,
        })
    }

    /// How the connection ended, if it did.
    pub fn fate(&self) -> &Arc<Fate> {
        &self.fate
    }

    /// Ends the connection, because the peer is not to be listened to any longer.
    pub fn end(&self, reason: impl Into<String>) {
        self.fate.end(reason);
        self.wake();
    }

    /// Starts a command over there.
    ///
    /// # Errors
    /// When the connection has ended, or the system has no more sockets.
    pub fn execute(&self, command: String) -> io::Result<RemoteCommand> {
        let (stdio, local) = local_pair()?;
        let (stderr, local_stderr) = local_pair()?;
        let started = self.open(Destination::Command(command), local, Some(local_stderr))?;
        Ok(RemoteCommand { stdio, stderr, started })
    }

    /// Opens a TCP connection from over there.
    ///
    /// # Errors
    /// When the connection has ended, or the system has no more sockets.
    pub fn tcp(&self, host: &str, port: u16) -> io::Result<(UnixStream, oneshot::Receiver<Result<(), String>>)> {
        let (stream, local) = local_pair()?;
        let opened = self.open(
            Destination::Tcp {
                host: host.to_owned(),
                port,
            },
            local,
            None,
        )?;
        Ok((stream, opened))
    }

    fn open(
        &self,
        destination: Destination,
        local: StdUnixStream,
        local_stderr: Option<StdUnixStream>,
    ) -> io::Result<oneshot::Receiver<Result<(), String>>> {
        let (opened, receiver) = oneshot::channel();
        let ended = || {
            io::Error::new(
                io::ErrorKind::NotConnected,
                self.fate.reason().unwrap_or("the connection has ended").to_owned(),
            )
        };
        let commands = self.commands.as_ref().ok_or_else(ended)?;
        commands
            .send(Command {
                destination,
                local,
                local_stderr,
                opened,
            })
            .map_err(|_| ended())?;
        self.wake();
        Ok(receiver)
    }

    fn wake(&self) {
        // A full socket means that a wake-up is under way already.
        let _ = (&self.waker).write(&[1]);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.commands = None;
        self.wake();
    }
}

fn local_pair() -> io::Result<(UnixStream, StdUnixStream)> {
    let (mine, theirs) = StdUnixStream::pair()?;
    mine.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((UnixStream::from_std(mine)?, theirs))
}
