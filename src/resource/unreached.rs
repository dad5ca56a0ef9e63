//! Servers that did not answer a moment ago. Each block asks for the same servers, and one that is dead must not be waited for again
//! by each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::host::{ConnectError, Target};

/// How long a server that did not answer counts as one that does not.
const FOR: Duration = Duration::from_secs(30);

/// What the last tries to connect came to, where nobody answered.
#[derive(Default)]
pub struct Unreached {
    tries: Mutex<HashMap<Target, (Instant, ConnectError)>>,
}

impl Unreached {
    /// Why the server did not answer a moment ago.
    pub fn recently(&self, target: &Target) -> Option<ConnectError> {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, (at, _)| at.elapsed() < FOR);
        tries.get(target).map(|(_, error)| error.clone())
    }

    /// Keeps that it did not answer. Whatever it said itself, such as that it lets nobody in, it is asked again.
    pub fn note(&self, target: &Target, error: &ConnectError) {
        if matches!(error, ConnectError::Unreachable { .. } | ConnectError::TimedOut { .. }) {
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            tries.insert(target.clone(), (Instant::now(), error.clone()));
        }
    }
}
