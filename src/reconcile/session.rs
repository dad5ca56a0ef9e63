//! What this process knows of one cluster between calls of Terraform. Terraform creates, changes and deletes members by separate
//! calls, in any order, and at the same time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};

use crate::membership::member_list::MemberList;

/// The sessions of all clusters, by the token of each.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// The session of the cluster with this token.
    pub fn of(&self, token: &str) -> Arc<Session> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(token.to_owned()).or_default())
    }

    /// Another run of Terraform begins in this process. What the last run announced is no longer true. What was measured is.
    pub fn new_run(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|session| session.new_run());
    }

    /// The provider is configured again.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The session of one cluster.
#[derive(Default)]
pub struct Session {
    line: Arc<tokio::sync::Mutex<()>>,
    /// The members that are to leave for good, and will not come back in this run.
    leaving: watch::Sender<BTreeSet<String>>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    /// The members that are to be there.
    coming: BTreeSet<String>,
    /// The list, as a quorum confirmed it, by which members of this run rest.
    ending: Option<MemberList>,
    /// A plan of this process says that the cluster stays.
    stays: bool,
    /// The servers that a plan of this process says are gone for good.
    lost: BTreeSet<String>,
    /// The members that wait to be restarted, and the one that did not come back.
    waiting: BTreeSet<String>,
    failed: Option<String>,
    round_trip: Option<Duration>,
    /// Whether it was seen to be founded. A cluster that is founded stays so.
    founded: Option<bool>,
    /// The first member that was not changed because others were missing.
    refused: Option<String>,
    said: HashSet<&'static str>,
}

impl Session {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_run(&self) {
        self.leaving.send_modify(BTreeSet::clear);
        let mut facts = self.facts();
        facts.coming.clear();
        facts.lost.clear();
        facts.ending = None;
        facts.stays = false;
        facts.founded = facts.founded.filter(|founded| *founded);
        (facts.failed, facts.refused) = (None, None);
        facts.said.clear();
    }

    /// The place in line: its holder may change the cluster's members.
    pub async fn line(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.line).lock_owned().await
    }

    /// The place in line, if it is free.
    pub fn try_line(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.line).try_lock_owned().ok()
    }

    /// A member is to leave, and will not come back in this run.
    pub fn announce_leaving(&self, member: &str) {
        self.facts().coming.remove(member);
        self.leaving.send_modify(|all| {
            all.insert(member.to_owned());
        });
    }

    /// A member is to be there.
    pub fn announce_coming(&self, member: &str) {
        let mut facts = self.facts();
        facts.coming.insert(member.to_owned());
        facts.ending = None;
        drop(facts);
        self.leaving.send_modify(|all| {
            all.remove(member);
        });
    }

    /// The members that are to leave for good, as far as Terraform asked for that.
    pub fn leaving(&self) -> BTreeSet<String> {
        self.leaving.borrow().clone()
    }

    /// The members that are to be there, as far as Terraform asked for that.
    pub fn coming(&self) -> BTreeSet<String> {
        self.facts().coming.clone()
    }

    /// Whether all of these members are to leave for good.
    pub fn all_leave(&self, members: &BTreeSet<String>) -> bool {
        self.leaving.borrow().is_superset(members)
    }

    /// Waits until all of these members are to leave for good.
    pub async fn until_all_leave(&self, members: &BTreeSet<String>) {
        let mut leaving = self.leaving.subscribe();
        // The sender is `self`, and lives as long as this.
        let _ = leaving.wait_for(|all| all.is_superset(members)).await;
    }

    /// All members in this list leave in this run, so they are stopped without a change of the list.
    pub fn ends(&self, list: &MemberList) {
        self.facts().ending = Some(list.clone());
    }

    /// The list by which members of this run rest.
    pub fn ending(&self) -> Option<MemberList> {
        self.facts().ending.clone()
    }

    /// A plan of this process has the cluster stay.
    pub fn keep_cluster(&self) {
        self.facts().stays = true;
    }

    /// Whether a plan of this process has the cluster stay. A plan that destroys it does not, and neither does another alias of the provider.
    pub fn cluster_stays(&self) -> bool {
        self.facts().stays
    }

    /// A plan of this process recovers the cluster without these servers.
    pub fn lose(&self, servers: &BTreeSet<String>) {
        self.facts().lost.clone_from(servers);
    }

    /// Whether a plan of this process recovers the cluster without this server.
    pub fn is_lost(&self, server: &str) -> bool {
        self.facts().lost.contains(server)
    }

    /// Notes the longest round trip between servers of the cluster.
    pub fn measured(&self, round_trip: Duration) {
        self.facts().round_trip = Some(round_trip);
    }

    /// The longest round trip between servers of the cluster, if this process saw it measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.facts().round_trip
    }

    /// Notes whether the cluster was seen to be founded.
    pub fn saw_founded(&self, founded: bool) {
        self.facts().founded = Some(founded);
    }

    /// Whether the cluster was founded, as far as this run has seen its servers.
    pub fn is_founded(&self) -> Option<bool> {
        self.facts().founded
    }

    /// Notes that a member was not changed because others were missing. Returns the first such member of the cluster, if that is another one.
    pub fn refused_before(&self, member: &str) -> Option<String> {
        let mut facts = self.facts();
        let first = facts.refused.get_or_insert_with(|| member.to_owned());
        (first != member).then(|| first.clone())
    }

    /// Whether this was not said of the cluster yet. The caller says it.
    pub fn says_first(&self, what: &'static str) -> bool {
        self.facts().said.insert(what)
    }

    /// Whether any member waits to be restarted.
    pub fn restarts_wait(&self) -> bool {
        !self.facts().waiting.is_empty()
    }

    /// Whether members wait to be restarted, and this one is not one of them.
    pub fn only_others_restart(&self, member: &str) -> bool {
        let facts = self.facts();
        !facts.waiting.is_empty() && !facts.waiting.contains(member)
    }

    /// A member waits to be restarted, as long as the result is kept.
    pub fn restarting(self: &Arc<Self>, member: &str) -> Restarting {
        self.facts().waiting.insert(member.to_owned());
        Restarting {
            session: Arc::clone(self),
            member: member.to_owned(),
        }
    }
}

/// A member that waits to be restarted.
pub struct Restarting {
    session: Arc<Session>,
    member: String,
}

impl Restarting {
    /// Whether other members wait too.
    pub fn others_wait(&self) -> bool {
        let facts = self.session.facts();
        facts.waiting.iter().any(|other| *other != self.member)
    }

    /// The member that did not come back from its restart in this run, if there is one.
    pub fn failed(&self) -> Option<String> {
        self.session.facts().failed.clone()
    }

    /// This one did not come back.
    pub fn fail(&self) {
        self.session.facts().failed = Some(self.member.clone());
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        self.session.facts().waiting.remove(&self.member);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn all_leave_once_the_last_one_was_announced() {
        let sessions = Sessions::default();
        let (session, other) = (sessions.of("t"), sessions.of("other"));
        let members = BTreeSet::from(["a1".to_owned(), "b1".to_owned()]);
        session.announce_leaving("a1");
        other.announce_leaving("b1");
        assert!(session.until_all_leave(&members).now_or_never().is_none());
        sessions.of("t").announce_leaving("b1");
        assert!(session.until_all_leave(&members).now_or_never().is_some() && session.all_leave(&members));
        session.announce_coming("a1");
        assert!(session.until_all_leave(&members).now_or_never().is_none() && !session.all_leave(&members));
        assert_eq!(session.leaving(), BTreeSet::from(["b1".to_owned()]));
        assert_eq!(session.coming(), BTreeSet::from(["a1".to_owned()]));
        session.announce_leaving("a1");
        assert!(session.coming().is_empty() && other.coming().is_empty());
    }

    #[test]
    fn another_run_knows_nothing_of_the_last_one_but_what_was_measured() {
        let sessions = Sessions::default();
        let session = sessions.of("t");
        session.announce_leaving("a1");
        session.announce_coming("c1");
        session.keep_cluster();
        session.lose(&BTreeSet::from(["a1".to_owned()]));
        session.measured(Duration::from_millis(40));
        session.restarting("b1").fail();
        assert!(session.cluster_stays() && session.is_lost("a1") && !sessions.of("other").cluster_stays());
        sessions.new_run();
        assert!(session.leaving().is_empty() && session.coming().is_empty());
        assert!(!session.cluster_stays() && !session.is_lost("a1"));
        assert_eq!(session.restarting("a1").failed(), None);
        assert_eq!(session.round_trip(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn a_member_waits_until_it_is_done_and_its_failure_is_known() {
        let sessions = Sessions::default();
        let session = sessions.of("t");
        let a1 = session.restarting("a1");
        assert!(!a1.others_wait() && session.restarts_wait());
        let b1 = session.restarting("b1");
        let other = sessions.of("other").restarting("c1");
        assert!(a1.others_wait() && b1.others_wait() && !other.others_wait());
        b1.fail();
        drop(b1);
        assert!(!a1.others_wait());
        assert_eq!(a1.failed().as_deref(), Some("b1"));
        assert_eq!(other.failed(), None);
    }

    #[test]
    fn one_has_the_place_in_line() {
        let session = Arc::new(Session::default());
        let place = session.line().now_or_never();
        assert!(place.is_some() && session.try_line().is_none());
        drop(place);
        assert!(session.try_line().is_some());
    }
}
