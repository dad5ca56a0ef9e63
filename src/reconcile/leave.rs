//! A member leaves: out of its cluster first, then off its server.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::limits::{Limits, Stopped};
use super::session::Session;
use super::turn::{Late, Lock, Turn};
use crate::membership::leaving::{Fate, InThisRun, Leaving, Refusal, decide};
use crate::membership::member_list::MemberList;

/// How long to wait for other members of the cluster that are to be destroyed in the same run, before this one begins to leave alone.
/// Terraform asks for them at the same time unless it may do only one thing at once. What Terraform says later is heeded too: this saves
/// changes of the member list, and decides nothing.
const TOGETHER: Duration = Duration::from_millis(300);
/// How long to wait for a quorum that is not there at first: the member that left last may have led.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look again.
const AGAIN: Duration = Duration::from_secs(1);

/// What performs the steps, for one member.
#[async_trait]
pub trait Backend: Sync {
    /// What the members say, with what it takes to ask them for more.
    type Survey: Send + Sync;
    /// The cluster's lock.
    type Lock: Lock;
    /// How the end looked.
    type Outcome: Send;
    /// Why a step could not be performed.
    type Error: Send;

    /// Connects to the member's server. A server that does not answer is no error: its member leaves all the same.
    async fn reach(&self) -> Result<(), Self::Error>;
    /// Asks all members. `None` if no member answers as one that has a leader.
    async fn survey(&self) -> Option<Self::Survey>;
    /// The member list that a quorum confirms.
    fn list(&self, survey: &Self::Survey) -> MemberList;
    /// Takes the cluster's lock.
    async fn lock(&self, survey: &Self::Survey, limits: &Limits) -> Result<Self::Lock, Self::Error>;
    /// The member waits, as this may pass by itself.
    fn waits(&self, refusal: &Refusal);
    /// Of these servers, those that hold no member, or one that rests. A server that can't be asked is not one of them.
    async fn without_member(&self, servers: &BTreeSet<String>) -> BTreeSet<String>;
    /// Looks whether the member could be taken off its server afterwards.
    async fn may_be_taken_off(&self) -> Result<(), Self::Error>;
    /// Moves the leadership away from the member, if it leads. A failure costs an election and nothing more.
    async fn hand_over(&self, survey: &Self::Survey);
    /// Has the others close their connections to the member, if it does not answer.
    async fn hang_up(&self, survey: &Self::Survey);
    /// Asks for a member's removal until the member list no longer has it.
    async fn remove(&self, survey: &Self::Survey, id: u64, limits: &Limits) -> Result<(), Self::Error>;
    /// Takes the member off its server, or stops it there ([`Leaving::Rest`]).
    async fn off_the_server(&self, how: &Leaving) -> Result<Self::Outcome, Self::Error>;
}

/// What is to happen to which member.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The member's server.
    pub server: String,
    /// The servers of its cluster, as its state has them.
    pub servers: BTreeSet<String>,
    /// Whether another member is to come in its place.
    pub fate: Fate,
    /// Whether the plan knew that the cluster stays.
    pub stays: bool,
}

/// Why a member did not leave.
#[derive(Debug)]
pub enum Obstacle<E> {
    /// A rule forbids it.
    Refused(Refusal),
    /// Its turn did not come.
    Late(Late),
    /// Terraform asked to stop.
    Stopped,
    /// A step failed.
    Step(E),
}

impl<E> From<Stopped> for Obstacle<E> {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Takes a member out of its cluster, and off its server.
///
/// # Errors
/// [`Obstacle`]; another try goes on from there.
pub async fn leave<B: Backend>(
    backend: &B,
    session: &Session,
    wish: &Wish,
    limits: &Limits,
) -> Result<B::Outcome, Obstacle<B::Error>> {
    let departure = Departure {
        backend,
        session,
        wish,
        limits,
    };
    departure.run().await
}

/// Takes something off its server that is in no member list.
///
/// # Errors
/// [`Obstacle`]; another try goes on from there.
pub async fn off_the_server<B: Backend>(backend: &B) -> Result<B::Outcome, Obstacle<B::Error>> {
    backend.reach().await.map_err(Obstacle::Step)?;
    backend.off_the_server(&Leaving::Gone).await.map_err(Obstacle::Step)
}

struct Departure<'a, B> {
    backend: &'a B,
    session: &'a Session,
    wish: &'a Wish,
    limits: &'a Limits,
}

/// How a member begins to leave.
enum Way<L> {
    /// All members of the cluster leave: there is nothing to wait for.
    Together,
    /// It has its turn.
    Alone(Turn<L>),
}

impl<B: Backend> Departure<'_, B> {
    async fn run(&self) -> Result<B::Outcome, Obstacle<B::Error>> {
        // Said before the server is reached, which takes some servers longer than others. No other call may take this member for one that
        // stays.
        if self.wish.fate == Fate::Gone {
            self.session.announce_leaving(&self.wish.server);
        }
        self.backend.reach().await.map_err(Obstacle::Step)?;
        let (how, turn) = self.out_of_cluster().await?;
        let outcome = self.backend.off_the_server(&how).await.map_err(Obstacle::Step);
        if let Some(turn) = turn {
            turn.end().await;
        }
        outcome
    }

    /// Takes the member out of the cluster, if it is in it and others stay. Says what was decided. The turn goes on until the member is
    /// off its server: another process may want a member there.
    async fn out_of_cluster(&self) -> Result<(Leaving, Option<Turn<B::Lock>>), Obstacle<B::Error>> {
        let mut wait = Wait::default();
        loop {
            let mut turn = match self.way().await? {
                Way::Together => return Ok((Leaving::Rest, None)),
                Way::Alone(turn) => turn,
            };
            match self.alone(&mut turn).await {
                Ok(Leaving::Refuse(refusal)) => {
                    turn.end().await;
                    if !refusal.may_pass() || !wait.goes_on(&refusal, self.limits) {
                        return Err(Obstacle::Refused(refusal));
                    }
                    self.backend.waits(&refusal);
                    self.limits.pause(AGAIN).await?;
                }
                // The lock has to be given back while there is a quorum. The next one of this process looks when this member is stopped.
                Ok(Leaving::Rest) => {
                    turn.unlock().await;
                    return Ok((Leaving::Rest, Some(turn)));
                }
                // One less that counts: it is decided again.
                Ok(Leaving::RemoveGivenUp) => turn.end().await,
                Ok(how) => return Ok((how, Some(turn))),
                Err(obstacle) => {
                    turn.end().await;
                    // The others may have been told to leave meanwhile, and what needs a quorum gets none any more.
                    if self.may_go_together()
                        && (self.session.all_leave(&self.wish.servers) || self.rests_with_others())
                    {
                        return Ok((Leaving::Rest, None));
                    }
                    return Err(obstacle);
                }
            }
        }
    }

    /// Waits for this member's turn, or for all others to leave too.
    async fn way(&self) -> Result<Way<B::Lock>, Obstacle<B::Error>> {
        let alone = async {
            if self.wish.fate == Fate::Gone {
                self.limits.pause(TOGETHER).await?;
            }
            let turn = Turn::take(self.session, self.limits.deadline).await;
            turn.map_err(Obstacle::Late)
        };
        let together = async {
            match self.may_go_together() {
                true => self.session.until_all_leave(&self.wish.servers).await,
                false => std::future::pending().await,
            }
        };
        let way = tokio::select! {
            biased;
            () = together => Way::Together,
            turn = alone => Way::Alone(turn?),
        };
        if self.limits.stopped() {
            return Err(Obstacle::Stopped);
        }
        Ok(way)
    }

    fn may_go_together(&self) -> bool {
        self.wish.fate == Fate::Gone && !self.wish.stays
    }

    async fn alone(&self, turn: &mut Turn<B::Lock>) -> Result<Leaving, Obstacle<B::Error>> {
        let mut survey = self.backend.survey().await;
        if let Some(seen) = &survey {
            let lock = self.backend.lock(seen, self.limits);
            if turn.lock(lock).await.map_err(Obstacle::Step)? {
                survey = self.backend.survey().await;
            }
        }
        let list = survey.as_ref().map(|survey| self.backend.list(survey));
        let decision = match self.decide(list.as_ref()).await {
            Leaving::Refuse(Refusal::NoQuorum) if self.rests_with_others() => Leaving::Rest,
            decision => decision,
        };
        tracing::debug!(server = self.wish.server, ?decision, "leaving");
        let (Some(survey), Some(list)) = (&survey, &list) else {
            return Ok(decision);
        };
        match &decision {
            Leaving::Rest => self.session.ends(list),
            Leaving::RemoveGivenUp => {
                if let Some(other) = list.given_up() {
                    self.remove(survey, other.id).await?;
                }
            }
            Leaving::Remove => {
                self.backend.may_be_taken_off().await.map_err(Obstacle::Step)?;
                self.backend.hand_over(survey).await;
                self.backend.hang_up(survey).await;
                if let Some(id) = list.own {
                    self.remove(survey, id).await?;
                }
            }
            _ => {}
        }
        Ok(decision)
    }

    /// Whether others of this run rest already, which took the quorum. A quorum had confirmed the list by which they do.
    fn rests_with_others(&self) -> bool {
        let ending = self.session.ending();
        ending.is_some_and(|list| self.decided(Some(&list), &BTreeSet::new()) == Leaving::Rest)
    }

    fn decided(&self, list: Option<&MemberList>, without: &BTreeSet<String>) -> Leaving {
        let leaving = self.session.leaving();
        let run = InThisRun {
            stays: self.wish.stays,
            leaving: &leaving,
            coming: &self.session.coming(),
            gone: without,
        };
        let mut others = self.wish.servers.difference(&leaving);
        let others_run = others.any(|name| *name != self.wish.server && !without.contains(name));
        let peers = list.map(MemberList::peers);
        decide(&self.wish.server, self.wish.fate, &run, peers.as_deref(), others_run)
    }

    /// The servers are looked at only if the decision needs more than the member list.
    async fn decide(&self, list: Option<&MemberList>) -> Leaving {
        let decision = self.decided(list, &BTreeSet::new());
        if !matches!(decision, Leaving::Refuse(Refusal::Quorum { .. } | Refusal::NoQuorum)) {
            return decision;
        }
        // This member's server, and those whose members nothing says are to leave.
        let leaving = self.session.leaving();
        let asked = self.wish.servers.iter();
        let asked = asked.filter(|name| **name == self.wish.server || !leaving.contains(*name));
        let asked = asked.cloned().collect();
        self.decided(list, &self.backend.without_member(&asked).await)
    }

    async fn remove(&self, survey: &B::Survey, id: u64) -> Result<(), Obstacle<B::Error>> {
        let removed = self.backend.remove(survey, id, self.limits).await;
        removed.map_err(Obstacle::Step)
    }
}

/// How long a refusal is waited for that may pass by itself.
#[derive(Default)]
struct Wait {
    until: Option<tokio::time::Instant>,
}

impl Wait {
    fn goes_on(&mut self, refusal: &Refusal, limits: &Limits) -> bool {
        let now = tokio::time::Instant::now();
        let until = *self.until.get_or_insert(now + PATIENCE);
        match refusal {
            // The members that are to join need turns of their own for that, and time.
            Refusal::Awaited { .. } => now + AGAIN < limits.deadline,
            _ => now + AGAIN < until.min(limits.deadline),
        }
    }
}
