//! One channel, and the local socket that its bytes come from and go to.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use tokio::sync::oneshot;

/// Bytes are moved in pieces of this size: two of SSH's largest packets.
const PIECE: usize = 64 * 1024;

/// A channel in use.
pub(super) struct Lane {
    channel: ssh2::Channel,
    /// The command that is being started; `None` once it runs (a tunnel needs none).
    starting: Option<String>,
    opened: Option<oneshot::Sender<Result<(), String>>>,
    outgoing: Outgoing,
    stdout: Incoming,
    stderr: Option<Incoming>,
    closing: bool,
}

/// From the local socket to the channel.
struct Outgoing {
    local: Arc<UnixStream>,
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
    ended: bool,
    end_sent: bool,
    /// The other end of the local socket is gone altogether, not only done with writing.
    abandoned: bool,
}

/// From the channel to a local socket.
struct Incoming {
    local: Arc<UnixStream>,
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
    ended: bool,
}

/// What one step of a lane came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Something moved; it is worth another step.
    pub moved: bool,
    /// The session's socket has no room.
    pub outbound_full: bool,
    /// The lane is done with.
    pub finished: bool,
    /// How many bytes of the channel were taken in.
    pub handed_on: usize,
}

/// A failure of the whole connection.
pub(super) struct Fatal(pub String);

/// libssh2's errors that concern the session and not the channel (`libssh2.h`).
const SESSION_ERRORS: [i32; 9] = [-1, -4, -7, -9, -12, -13, -14, -30, -43];

/// Whether the same call is to be made again later.
fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether libssh2 wants the same call again later.
pub(super) fn is_again(error: &ssh2::Error) -> bool {
    error.code() == ssh2::ErrorCode::Session(-37)
}

/// Whether the error ends the session.
pub(super) fn is_fatal(error: &ssh2::Error) -> bool {
    matches!(error.code(), ssh2::ErrorCode::Session(code) if SESSION_ERRORS.contains(&code))
}

impl Lane {
    pub(super) fn new(
        channel: ssh2::Channel,
        starting: Option<String>,
        local: UnixStream,
        local_stderr: Option<UnixStream>,
        opened: oneshot::Sender<Result<(), String>>,
    ) -> Self {
        // Both directions share the socket: a copy of it would need a descriptor that may not be left.
        let local = Arc::new(local);
        let mut lane = Self {
            channel,
            starting,
            opened: Some(opened),
            stdout: Incoming::new(Arc::clone(&local)),
            outgoing: Outgoing {
                local,
                bytes: vec![0; PIECE].into(),
                from: 0,
                to: 0,
                ended: false,
                end_sent: false,
                abandoned: false,
            },
            stderr: local_stderr.map(|local| Incoming::new(Arc::new(local))),
            closing: false,
        };
        if lane.starting.is_none() {
            lane.report(Ok(()));
        }
        lane
    }

    fn report(&mut self, result: Result<(), String>) {
        if let Some(opened) = self.opened.take() {
            // Whoever asked may have given up.
            let _ = opened.send(result);
        }
    }

    /// Moves what can be moved now, a bounded amount. `room` says whether the session's socket has room for a whole packet.
    pub(super) fn step(&mut self, session: &ssh2::Session, room: &mut dyn FnMut() -> bool) -> Result<Progress, Fatal> {
        let mut progress = Progress::default();
        if self.closing {
            self.close(session, &mut progress)?;
            return Ok(progress);
        }
        if let Some(command) = &self.starting {
            match self.channel.exec(command) {
                Ok(()) => {
                    self.starting = None;
                    self.report(Ok(()));
                    progress.moved = true;
                }
                Err(error) if is_again(&error) => {
                    progress.outbound_full |= wants_out(session);
                    if progress.outbound_full {
                        return Ok(progress);
                    }
                    // The request is on its way: what is written now travels along.
                }
                Err(error) if is_fatal(&error) => return Err(Fatal(error.message().to_owned())),
                Err(error) => {
                    self.report(Err(error.message().to_owned()));
                    self.closing = true;
                    progress.moved = true;
                    return Ok(progress);
                }
            }
        }
        self.send(session, room, &mut progress)?;
        self.receive(session, &mut progress)?;
        Ok(progress)
    }

    fn send(
        &mut self,
        session: &ssh2::Session,
        room: &mut dyn FnMut() -> bool,
        progress: &mut Progress,
    ) -> Result<(), Fatal> {
        let outgoing = &mut self.outgoing;
        outgoing.fill(progress);
        while outgoing.from < outgoing.to {
            // libssh2 must not be left with half a packet: anything but the same write again would then fail.
            if !room() {
                progress.outbound_full = true;
                return Ok(());
            }
            match self.channel.write(&outgoing.bytes[outgoing.from..outgoing.to]) {
                Ok(written) => {
                    outgoing.from += written;
                    progress.moved |= written > 0;
                }
                Err(error) if again(&error) => {
                    progress.outbound_full |= wants_out(session);
                    return Ok(());
                }
                Err(_) => return self.fail(session, progress),
            }
        }
        if outgoing.ended && !outgoing.end_sent {
            match self.channel.send_eof() {
                Ok(()) => outgoing.end_sent = true,
                Err(error) if is_again(&error) => {
                    progress.outbound_full |= wants_out(session);
                    return Ok(());
                }
                Err(_) => return self.fail(session, progress),
            }
        }
        if outgoing.abandoned && outgoing.end_sent {
            self.closing = true;
            progress.moved = true;
        }
        Ok(())
    }

    fn receive(&mut self, session: &ssh2::Session, progress: &mut Progress) -> Result<(), Fatal> {
        let mut result = self.stdout.carry(&mut self.channel.stream(0), progress);
        if let (Ok(()), Some(stderr)) = (&result, &mut self.stderr) {
            result = stderr.carry(&mut self.channel.stderr(), progress);
        }
        if result.is_err() {
            return self.fail(session, progress);
        }
        progress.outbound_full |= wants_out(session);
        let complete = self.stdout.is_complete() && self.stderr.as_ref().is_none_or(Incoming::is_complete);
        let command = self.stderr.is_some();
        if complete && (command || self.outgoing.end_sent) {
            self.closing = true;
            progress.moved = true;
        }
        Ok(())
    }

    /// Ends the connection when the error is of the session, and otherwise only this lane.
    fn fail(&mut self, session: &ssh2::Session, progress: &mut Progress) -> Result<(), Fatal> {
        // As an I/O error it has lost its code, but the session remembers.
        if let Some(error) = ssh2::Error::last_session_error(session).filter(is_fatal) {
            return Err(Fatal(error.message().to_owned()));
        }
        self.closing = true;
        progress.moved = true;
        Ok(())
    }

    fn close(&mut self, session: &ssh2::Session, progress: &mut Progress) -> Result<(), Fatal> {
        self.outgoing.shut();
        match self.channel.close() {
            Err(error) if is_again(&error) => progress.outbound_full |= wants_out(session),
            Err(error) if is_fatal(&error) => return Err(Fatal(error.message().to_owned())),
            Ok(()) | Err(_) => {
                progress.finished = true;
                progress.moved = true;
            }
        }
        Ok(())
    }

    /// Whether bytes from the peer would be taken: if no lane does, the session's socket isn't worth waking up for.
    pub(super) fn listens(&self) -> bool {
        self.closing
            || self.starting.is_some()
            || self.stdout.wants_more()
            || self.stderr.as_ref().is_some_and(Incoming::wants_more)
            || self.outgoing.from < self.outgoing.to
    }

    /// The local sockets that are worth waking up for.
    pub(super) fn interests<'a>(&'a self, polled: &mut Vec<PollFd<'a>>) {
        if self.closing {
            return;
        }
        let mut flags = PollFlags::empty();
        if self.outgoing.from == self.outgoing.to && !self.outgoing.ended {
            flags |= PollFlags::IN;
        }
        if self.stdout.from < self.stdout.to {
            flags |= PollFlags::OUT;
        }
        if !flags.is_empty() {
            polled.push(PollFd::new(&*self.outgoing.local, flags));
        }
        if let Some(stderr) = self.stderr.as_ref().filter(|stderr| stderr.from < stderr.to) {
            polled.push(PollFd::new(&*stderr.local, PollFlags::OUT));
        }
    }
}

impl Outgoing {
    fn fill(&mut self, progress: &mut Progress) {
        if self.from < self.to || self.ended {
            return;
        }
        match (&*self.local).read(&mut self.bytes) {
            Ok(0) => self.end(),
            Ok(count) => {
                (self.from, self.to) = (0, count);
                progress.moved = true;
            }
            Err(error) if again(&error) => {}
            Err(_) => self.end(),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        let mut polled = [PollFd::new(&*self.local, PollFlags::empty())];
        let polled_well =
            rustix::event::poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok();
        self.abandoned = polled_well && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
    }

    /// Ends the local socket. What the caller wrote and nobody wants is read first: a socket that is closed with unread bytes
    /// would make the caller's reading fail, before it has read all that came.
    fn shut(&mut self) {
        // It may be gone already.
        let _ = self.local.shutdown(Shutdown::Both);
        while matches!((&*self.local).read(&mut self.bytes), Ok(count) if count > 0) {}
    }
}

impl Incoming {
    fn new(local: Arc<UnixStream>) -> Self {
        Self {
            local,
            bytes: vec![0; PIECE].into(),
            from: 0,
            to: 0,
            ended: false,
        }
    }

    fn wants_more(&self) -> bool {
        self.from == self.to && !self.ended
    }

    fn is_complete(&self) -> bool {
        self.ended && self.from == self.to
    }

    /// Moves up to a few pieces.
    fn carry(&mut self, channel: &mut ssh2::Stream, progress: &mut Progress) -> io::Result<()> {
        for _ in 0..8 {
            if self.from == self.to {
                if self.ended {
                    return Ok(());
                }
                match channel.read(&mut self.bytes) {
                    Ok(0) => {
                        self.ended = true;
                        progress.moved = true;
                        // Nobody may be listening any more.
                        let _ = self.local.shutdown(Shutdown::Write);
                        return Ok(());
                    }
                    Ok(count) => {
                        (self.from, self.to) = (0, count);
                        progress.moved = true;
                        progress.handed_on += count;
                    }
                    Err(error) if again(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            match (&*self.local).write(&self.bytes[self.from..self.to]) {
                Ok(count) => {
                    self.from += count;
                    progress.moved = true;
                }
                Err(error) if again(&error) => return Ok(()),
                // Nobody listens any more: what comes is dropped, until the outgoing side notices the same.
                Err(_) => (self.from, self.to) = (0, 0),
            }
        }
        Ok(())
    }
}

fn wants_out(session: &ssh2::Session) -> bool {
    matches!(
        session.block_directions(),
        ssh2::BlockDirections::Outbound | ssh2::BlockDirections::Both
    )
}
