//! The members of this process that are to be restarted, by the token of their cluster: who waits, and whether one did not
//! come back.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Of all clusters.
#[derive(Default)]
pub struct Restarts {
    clusters: Mutex<HashMap<String, OfOne>>,
}

#[derive(Default)]
struct OfOne {
    waiting: BTreeSet<String>,
    failed: Option<String>,
}

/// A member that waits to be restarted, as long as this is kept.
pub struct Restarting {
    restarts: Arc<Restarts>,
    token: String,
    member: String,
}

impl Restarting {
    /// The member waits from now on.
    pub fn new(restarts: &Arc<Restarts>, token: &str, member: &str) -> Self {
        let restarting = Self {
            restarts: Arc::clone(restarts),
            token: token.to_owned(),
            member: member.to_owned(),
        };
        restarting.with(|all| all.waiting.insert(member.to_owned()));
        restarting
    }

    fn with<T>(&self, use_them: impl FnOnce(&mut OfOne) -> T) -> T {
        let mut clusters = self.restarts.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        use_them(clusters.entry(self.token.clone()).or_default())
    }

    /// Whether other members wait too.
    pub fn others_wait(&self) -> bool {
        self.with(|all| all.waiting.iter().any(|other| *other != self.member))
    }

    /// The member that did not come back from its restart in this run, if there is one.
    pub fn failed(&self) -> Option<String> {
        self.with(|all| all.failed.clone())
    }

    /// This one did not come back.
    pub fn fail(&self) {
        self.with(|all| all.failed = Some(self.member.clone()));
    }
}

impl Restarts {
    /// Another run begins, and none of its members has failed yet.
    pub fn forget_failures(&self) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.values_mut().for_each(|all| all.failed = None);
    }

    /// Whether any member of a cluster waits.
    pub fn wait(&self, token: &str) -> bool {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.get(token).is_some_and(|all| !all.waiting.is_empty())
    }

    /// Whether members of a cluster wait, and this one is none of them.
    pub fn only_others_wait(&self, token: &str, member: &str) -> bool {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = clusters.get(token).map(|all| &all.waiting);
        waiting.is_some_and(|waiting| !waiting.is_empty() && !waiting.contains(member))
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        self.with(|all| all.waiting.remove(&self.member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_done_waits_no_longer_and_who_failed_is_known() {
        let restarts = Arc::new(Restarts::default());
        let a1 = Restarting::new(&restarts, "t", "a1");
        assert!(!a1.others_wait());
        let b1 = Restarting::new(&restarts, "t", "b1");
        let other = Restarting::new(&restarts, "other", "c1");
        assert!(a1.others_wait() && b1.others_wait() && !other.others_wait());
        assert!(restarts.wait("t") && !restarts.wait("nobody's"));
        assert!(restarts.only_others_wait("t", "c1") && !restarts.only_others_wait("t", "a1"));
        assert!(!restarts.only_others_wait("nobody's", "c1"));
        b1.fail();
        drop(b1);
        assert!(!a1.others_wait());
        assert_eq!(a1.failed().as_deref(), Some("b1"));
        assert_eq!(other.failed(), None);
        restarts.forget_failures();
        assert_eq!(a1.failed(), None);
    }
}
