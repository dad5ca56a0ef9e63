//! Who is to leave which cluster and who is to be there, as far as this process was asked. Terraform says it member by member; only when
//! all of a cluster have been said is the cluster being taken down, and nobody has to leave it one after the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The members that are to leave for good, by the token of their cluster.
pub struct Departures {
    leaving: watch::Sender<HashMap<String, BTreeSet<String>>>,
    /// The members that are to be there.
    coming: Mutex<HashMap<String, BTreeSet<String>>>,
    /// The tokens of clusters of which a plan says that they stay.
    stay: Mutex<BTreeSet<String>>,
    /// The servers that a plan says are gone for good, of clusters that are to be recovered.
    lost: Mutex<HashMap<String, BTreeSet<String>>>,
}

impl Default for Departures {
    fn default() -> Self {
        Self {
            leaving: watch::Sender::new(HashMap::new()),
            coming: Mutex::default(),
            stay: Mutex::default(),
            lost: Mutex::default(),
        }
    }
}

impl Departures {
    /// Another run begins: what was said in the last one is no longer true.
    pub fn forget(&self) {
        self.leaving.send_modify(HashMap::clear);
        self.coming.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.stay.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Notes that a member is to leave, and will not come back in this run.
    pub fn announce(&self, token: &str, member: &str) {
        self.with_coming(token, |coming| coming.remove(member));
        self.leaving.send_modify(|all| {
            all.entry(token.to_owned()).or_default().insert(member.to_owned());
        });
    }

    /// Notes that a member is to be there.
    pub fn withdraw(&self, token: &str, member: &str) {
        self.with_coming(token, |coming| coming.insert(member.to_owned()));
        self.leaving.send_modify(|all| {
            if let Some(members) = all.get_mut(token) {
                members.remove(member);
            }
        });
    }

    /// Those that are to leave a cluster so far.
    pub fn of(&self, token: &str) -> BTreeSet<String> {
        self.leaving.borrow().get(token).cloned().unwrap_or_default()
    }

    /// Notes the servers that are gone for good, of a cluster that is to be recovered.
    pub fn lose(&self, token: &str, servers: &BTreeSet<String>) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.insert(token.to_owned(), servers.clone());
    }

    /// Whether a server was said to be gone for good.
    pub fn is_lost(&self, token: &str, server: &str) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get(token).is_some_and(|servers| servers.contains(server))
    }

    /// Notes that a cluster stays.
    pub fn keep(&self, token: &str) {
        let mut stay = self.stay.lock().unwrap_or_else(PoisonError::into_inner);
        stay.insert(token.to_owned());
    }

    /// Whether it was said that a cluster stays.
    pub fn stays(&self, token: &str) -> bool {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
    }

    /// Those that are to be in a cluster so far.
    pub fn coming(&self, token: &str) -> BTreeSet<String> {
        self.with_coming(token, |coming| coming.clone())
    }

    fn with_coming<T>(&self, token: &str, use_them: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        use_them(coming.entry(token.to_owned()).or_default())
    }

    /// Waits until all of `members` are to leave the cluster.
    pub async fn all(&self, token: &str, members: &BTreeSet<String>) {
        let mut leaving = self.leaving.subscribe();
        let complete =
            |all: &HashMap<String, BTreeSet<String>>| all.get(token).is_some_and(|so_far| so_far.is_superset(members));
        // The sender is `self`, and lives as long as this.
        let _ = leaving.wait_for(complete).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn only_when_the_last_one_was_said_do_all_leave() {
        let departures = Departures::default();
        let members = BTreeSet::from(["a1".to_owned(), "b1".to_owned()]);
        departures.announce("t", "a1");
        departures.announce("other", "b1");
        assert!(departures.all("t", &members).now_or_never().is_none());
        departures.announce("t", "b1");
        assert!(departures.all("t", &members).now_or_never().is_some());
        departures.withdraw("t", "a1");
        assert!(departures.all("t", &members).now_or_never().is_none());
        assert_eq!(departures.of("t"), BTreeSet::from(["b1".to_owned()]));
        assert_eq!(departures.coming("t"), BTreeSet::from(["a1".to_owned()]));
        assert!(departures.coming("other").is_empty());
        departures.announce("t", "a1");
        assert!(departures.coming("t").is_empty());
        departures.keep("t");
        assert!(departures.stays("t") && !departures.stays("other"));
        departures.withdraw("t", "c1");
        departures.lose("t", &members);
        departures.forget();
        assert!(departures.of("t").is_empty() && departures.coming("t").is_empty());
        assert!(!departures.stays("t") && !departures.is_lost("t", "a1"));
    }
}
