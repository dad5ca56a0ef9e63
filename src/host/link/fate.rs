//! How a connection ended, and how much came over it that nobody was given.
//!
//! libssh2 keeps every packet that nobody asks for, without a limit: a peer that sends such packets would fill the memory, even before it has
//! shown a host key. So what comes in is counted against what was handed on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What may come before the login is through. Handshake and authentication are some 10 kB.
const MOST_BEFORE_LOGIN: u64 = 1 << 20;
/// What may come after it and be handed to nobody: SSH's own packets, and what channels hold that nobody reads, 2 MiB each at most.
const MOST_UNASKED: u64 = 32 << 20;

/// How a connection ended, if it did.
#[derive(Debug, Default)]
pub struct Fate {
    reason: OnceLock<String>,
    ended: AtomicBool,
    logged_in: AtomicBool,
    /// Bytes that came from the peer, since the login once that is through.
    came: AtomicU64,
    /// Bytes of channels that were handed on.
    handed_on: AtomicU64,
}

impl Fate {
    /// Keeps the first reason that is given.
    pub fn seal(&self, reason: impl Into<String>) {
        // A second reason only follows from the first.
        let _ = self.reason.set(reason.into());
    }

    /// Why the connection ended; `None` while it lives.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Seals it, because the peer is not to be listened to any longer.
    pub fn end(&self, reason: impl Into<String>) {
        self.seal(reason);
        self.ended.store(true, Ordering::Release);
    }

    /// Whether we ended it, and why.
    pub fn ended(&self) -> Option<&str> {
        self.reason().filter(|_| self.ended.load(Ordering::Acquire))
    }

    /// The login is through.
    pub fn logged_in(&self) {
        self.came.store(0, Ordering::Relaxed);
        self.logged_in.store(true, Ordering::Release);
    }

    /// So many bytes came from the peer. Ends the connection if they are too many.
    pub fn came(&self, count: usize) {
        let came = self.came.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if !self.logged_in.load(Ordering::Acquire) {
            if came > MOST_BEFORE_LOGIN {
                let most = MOST_BEFORE_LOGIN >> 10;
                self.end(format!(
                    "the server sent more than {most} KiB before the login was through"
                ));
            }
            return;
        }
        // A packet of SSH's may be as long again as what it carries, where that is little.
        let explained = 2 * self.handed_on.load(Ordering::Relaxed);
        if came.saturating_sub(explained) > MOST_UNASKED {
            let most = MOST_UNASKED >> 20;
            self.end(format!(
                "the server sent more than {most} MiB that nothing had asked for"
            ));
        }
    }

    /// So many bytes of channels were handed on.
    pub fn handed_on(&self, count: usize) {
        self.handed_on.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_ends_it() {
        let fate = Fate::default();
        fate.came(1 << 20);
        assert_eq!(fate.reason(), None);
        fate.logged_in();
        for _ in 0..1000 {
            fate.came(16 << 20);
            fate.handed_on(15 << 20);
        }
        assert_eq!(fate.reason(), None, "a long snapshot");
        let other = Fate::default();
        other.logged_in();
        other.came(33 << 20);
        assert!(other.ended().is_some_and(|why| why.contains("32 MiB")));
        let early = Fate::default();
        early.came((1 << 20) + 1);
        assert!(early.ended().is_some_and(|why| why.contains("before the login")));
        let closed = Fate::default();
        closed.seal("the server closed the connection");
        closed.end("too much");
        assert_eq!(closed.reason(), Some("the server closed the connection"));
    }
}
