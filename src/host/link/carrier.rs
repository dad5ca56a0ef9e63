//! The thread that owns a session and carries the bytes of all its channels.
//!
//! Two rules of libssh2 shape it. A write that got half a packet out must be repeated before anything else is written: so nothing is
//! written unless the socket has room for a whole packet, which a local socket that polls as writable always has. And the session's incoming
//! packets are only taken in by an operation on a channel: so a spare channel is kept while there is no other.

use std::collections::VecDeque;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::lane::{Fatal, Lane, is_again, is_fatal};
use super::{Command, Destination, Fate};

pub(super) struct Carrier {
    session: ssh2::Session,
    socket: UnixStream,
    commands: Receiver<Command>,
    woken: UnixStream,
    fate: Arc<Fate>,
    waiting: VecDeque<Command>,
    lanes: Vec<Lane>,
    spare: Spare,
    keep_alive: Duration,
    last_heard: Instant,
    next_keep_alive: Instant,
}

/// A session channel that was opened ahead: it saves the first command a round trip, and takes packets in while there is no other channel.
enum Spare {
    None,
    Opening,
    Ready(ssh2::Channel),
    Refused,
}

/// What a round over all channels came to.
#[derive(Default)]
struct Round {
    moved: bool,
    outbound_full: bool,
}

impl Carrier {
    pub(super) fn new(
        session: ssh2::Session,
        socket: UnixStream,
        commands: Receiver<Command>,
        woken: UnixStream,
        keep_alive: Duration,
        fate: Arc<Fate>,
        spare_channel: bool,
    ) -> Self {
        session.set_blocking(false);
        // libssh2 counts in whole seconds, and takes none for never.
        let keep_alive = whole_seconds(keep_alive);
        session.set_keepalive(true, u32::try_from(keep_alive.as_secs()).unwrap_or(u32::MAX));
        let now = Instant::now();
        Self {
            session,
            socket,
            commands,
            woken,
            fate,
            waiting: VecDeque::new(),
            lanes: Vec::new(),
            spare: if spare_channel { Spare::Opening } else { Spare::None },
            keep_alive,
            last_heard: now,
            next_keep_alive: now + keep_alive,
        }
    }

    /// Until nobody holds the link any more, or the connection ends. All local sockets are closed then.
    pub(super) fn run(mut self) {
        let reason = match self.carry() {
            Ok(()) => "closed".to_owned(),
            Err(Fatal(reason)) => reason,
        };
        tracing::debug!(reason, "SSH connection ended");
        self.fate.seal(reason);
        for command in self.waiting.drain(..).chain(self.commands.try_iter()) {
            let _ = command
                .opened
                .send(Err(self.fate.reason().unwrap_or_default().to_owned()));
        }
        // A courtesy; the peer notices the end of the connection anyway.
        let _ = self.session.disconnect(None, "done", None);
    }

    fn carry(&mut self) -> Result<(), Fatal> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => {
                    self.waiting.push_back(command);
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                // Lanes that are still in use (a bastion's tunnel) keep the connection.
                Err(TryRecvError::Disconnected) if self.lanes.is_empty() && self.waiting.is_empty() => return Ok(()),
                Err(TryRecvError::Disconnected) => {}
            }
            if let Some(reason) = self.fate.ended() {
                return Err(Fatal(reason.to_owned()));
            }
            let round = self.round()?;
            self.send_keep_alive()?;
            if !round.moved {
                self.sleep(round.outbound_full)?;
            }
        }
    }

    fn round(&mut self) -> Result<Round, Fatal> {
        let mut round = Round::default();
        self.open(&mut round)?;
        let (session, socket) = (&self.session, &self.socket);
        let mut finished = Vec::new();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let progress = lane.step(session, &mut || has_room(socket))?;
            self.fate.handed_on(progress.handed_on);
            round.moved |= progress.moved;
            round.outbound_full |= progress.outbound_full;
            if progress.finished {
                finished.push(index);
            }
        }
        for index in finished.into_iter().rev() {
            self.lanes.swap_remove(index);
        }
        if self.lanes.is_empty()
            && let Spare::Ready(channel) = &mut self.spare
        {
            let mut nothing = [0; 1];
            match channel.read(&mut nothing) {
                Ok(0) => self.spare = Spare::Refused,
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(Fatal(error.to_string())),
            }
        }
        Ok(round)
    }

    /// libssh2 opens one channel at a time: the one that is being opened must be seen through before the next.
    fn open(&mut self, round: &mut Round) -> Result<(), Fatal> {
        if matches!(self.spare, Spare::Opening) {
            match self.session.channel_session() {
                Ok(channel) => self.spare = Spare::Ready(channel),
                Err(error) if is_again(&error) => {
                    round.outbound_full |= self.wants_out();
                    return Ok(());
                }
                Err(error) if is_fatal(&error) => return Err(Fatal(error.message().to_owned())),
                Err(_) => self.spare = Spare::Refused,
            }
            round.moved = true;
        }
        while let Some(command) = self.waiting.front() {
            let channel = match &command.destination {
                Destination::Command(_) => match std::mem::replace(&mut self.spare, Spare::None) {
                    Spare::Ready(channel) => Ok(channel),
                    other => {
                        self.spare = other;
                        self.session.channel_session()
                    }
                },
                Destination::Tcp { host, port } => self.session.channel_direct_tcpip(host, *port, None),
            };
            if let Err(error) = &channel {
                if is_again(error) {
                    round.outbound_full |= self.wants_out();
                    return Ok(());
                }
                if is_fatal(error) {
                    return Err(Fatal(error.message().to_owned()));
                }
            }
            round.moved = true;
            let Some(command) = self.waiting.pop_front() else { break };
            match channel {
                Ok(channel) => {
                    let starting = match command.destination {
                        Destination::Command(text) => Some(text),
                        Destination::Tcp { .. } => None,
                    };
                    let (local, local_stderr) = (command.local, command.local_stderr);
                    self.lanes
                        .push(Lane::new(channel, starting, local, local_stderr, command.opened));
                }
                Err(error) => {
                    let _ = command.opened.send(Err(error.message().to_owned()));
                }
            }
        }
        Ok(())
    }

    fn wants_out(&self) -> bool {
        matches!(
            self.session.block_directions(),
            ssh2::BlockDirections::Outbound | ssh2::BlockDirections::Both
        )
    }

    fn send_keep_alive(&mut self) -> Result<(), Fatal> {
        if self.keep_alive.is_zero() {
            return Ok(());
        }
        let now = Instant::now();
        let patience = self.keep_alive.saturating_mul(3);
        if now.duration_since(self.last_heard) > patience {
            return Err(Fatal(format!(
                "the server sent nothing for {} s, not even answers to keep-alives",
                patience.as_secs()
            )));
        }
        if now >= self.next_keep_alive && has_room(&self.socket) {
            let seconds = self
                .session
                .keepalive_send()
                .map_err(|error| Fatal(error.message().to_owned()))?;
            self.next_keep_alive = now + Duration::from_secs(u64::from(seconds.max(1)));
        }
        Ok(())
    }

    /// Waits for the peer, a local socket, a command or the next keep-alive.
    fn sleep(&mut self, outbound_full: bool) -> Result<(), Fatal> {
        let opening = !self.waiting.is_empty() || matches!(self.spare, Spare::Opening);
        let idle = self.lanes.is_empty();
        let listens =
            opening || self.lanes.iter().any(Lane::listens) || (idle && !matches!(self.spare, Spare::Refused));
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, listens);
        flags.set(PollFlags::OUT, outbound_full);
        let mut polled = vec![
            PollFd::new(&self.socket, flags),
            PollFd::new(&self.woken, PollFlags::IN),
        ];
        for lane in &self.lanes {
            lane.interests(&mut polled);
        }
        let until = if self.keep_alive.is_zero() {
            Duration::from_secs(3600)
        } else {
            self.next_keep_alive.saturating_duration_since(Instant::now())
        };
        // Never less than a moment: a keep-alive that finds no room must not spin.
        let until = until.max(Duration::from_millis(10));
        let timeout = Timespec {
            tv_sec: i64::try_from(until.as_secs()).unwrap_or(3600),
            tv_nsec: i64::from(until.subsec_nanos()),
        };
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Fatal(format!("poll: {error}"))),
        }
        let of_socket = polled[0].revents();
        let of_waker = polled[1].revents();
        drop(polled);
        if of_socket.contains(PollFlags::IN) {
            self.last_heard = Instant::now();
            if idle && !opening && matches!(self.spare, Spare::None) {
                self.spare = Spare::Opening;
            }
        } else if of_socket.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Fatal("the connection was closed".to_owned()));
        }
        if of_waker.contains(PollFlags::IN) {
            // Only that there was one counts.
            let _ = (&self.woken).read(&mut [0; 64]);
        }
        Ok(())
    }
}

/// A duration in whole seconds, none of it lost; an hour at most, so that no time is out of reach.
fn whole_seconds(time: Duration) -> Duration {
    let more = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(more).min(3600))
}

fn has_room(socket: &UnixStream) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    rustix::event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && polled[0].revents().contains(PollFlags::OUT)
}
