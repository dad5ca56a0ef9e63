//! The changes of the member list that bringing a member up may need, through whichever other member answers.
//! [`crate::membership::member`] says which and when.

use std::time::Duration;

use tokio::time::Instant;

use super::bring_up::{BringUp, BringUpError};
use super::survey::{Survey, survey};
use super::talk::{Talk, TalkError};
use crate::etcd::api::{Api, ApiError, Member};
use crate::membership::member::{Cluster, Listed};

const QUESTION: Duration = Duration::from_secs(5);
/// How long the members may take to see a changed hosts file: Go keeps what it read of it for 5 s
/// (`net/hosts.go`, `cacheMaxAge`).
const RESOLVER: Duration = Duration::from_secs(6);

impl BringUp<'_> {
    /// What the other members say of the cluster and of this member.
    pub(super) async fn look_at_cluster(&self, talk: &Talk<'_>) -> (Cluster, Option<Survey>) {
        let Some(survey) = survey(talk, self.member, self.topology).await else {
            return (Cluster::NoQuorum, None);
        };
        let own = match survey.members.iter().find(|member| Some(member.id) == survey.own) {
            None => Listed::Not,
            Some(member) if !member.has_started() => Listed::Unstarted,
            Some(member) if member.is_learner => Listed::Learner,
            Some(_) => Listed::Voter,
        };
        let others = survey
            .members
            .iter()
            .filter(|member| !member.is_learner && Some(member.id) != survey.own);
        let others: Vec<&Member> = others.collect();
        let healthy = others
            .iter()
            .filter(|member| survey.healthy.contains(&member.id))
            .count();
        (
            Cluster::Lives {
                own,
                others: others.len(),
                healthy,
            },
            Some(survey),
        )
    }

    /// Takes the member that lost its data out of the member list.
    pub(super) async fn remove_old(&self, survey: &Survey) -> Result<(), BringUpError> {
        let Some(id) = survey.own else { return Ok(()) };
        self.until_listed(
            "taking its old member out of the cluster",
            &survey.api,
            |members| members.iter().all(|one| one.id != id),
            || survey.api.member_remove(id, QUESTION),
        )
        .await
    }

    /// Adds the member as a learner, and waits until the others can resolve its name.
    pub(super) async fn add_learner(&self, survey: &Survey, peer_url: &str) -> Result<(), BringUpError> {
        for leftover in survey.members.iter().filter(|one| self.is_leftover(one, survey)) {
            tracing::debug!(id = leftover.id, "removing a learner that never started");
            let gone = |members: &[Member]| members.iter().all(|one| one.id != leftover.id);
            let remove = || survey.api.member_remove(leftover.id, QUESTION);
            self.until_listed("removing a learner that never started", &survey.api, gone, remove)
                .await?;
        }
        let urls = [peer_url.to_owned()];
        self.until_listed(
            "adding it to the cluster as a learner",
            &survey.api,
            |members| members.iter().any(|one| one.peer_urls == urls),
            || async { survey.api.member_add_learner(&urls, QUESTION).await.map(drop) },
        )
        .await?;
        self.road
            .pause(RESOLVER)
            .await
            .map_err(|_| BringUpError::Stopped { runs: false })
    }

    /// A learner that was added for a server which is none of the cluster's any more, and never started. It keeps
    /// others from being added, and nothing is lost with it.
    fn is_leftover(&self, one: &Member, survey: &Survey) -> bool {
        let domain = format!(".{}:", self.topology.domain());
        let ours = one.peer_urls.iter().any(|url| url.contains(&domain));
        one.is_learner && !one.has_started() && ours && !survey.names.contains_key(&one.id)
    }

    /// Makes a voter of the learner, when it has caught up.
    pub(super) async fn promote(&self, survey: &Survey) -> Result<(), BringUpError> {
        let Some(id) = survey.own else { return Ok(()) };
        self.until_listed(
            "making a voter of it",
            &survey.api,
            |members| members.iter().any(|one| one.id == id && !one.is_learner),
            || survey.api.member_promote(id, QUESTION),
        )
        .await
    }

    /// Asks for a change until the member list shows it: a change may time out and still be made, and etcd refuses some
    /// for a while (peers must have been connected for 5 s, a learner must have caught up).
    async fn until_listed<F: Future<Output = Result<(), ApiError>>>(
        &self,
        what: &'static str,
        api: &Api,
        done: impl Fn(&[Member]) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<(), BringUpError> {
        loop {
            let asked = ask().await;
            let listed = match api.confirm_quorum(QUESTION).await {
                Ok(()) => api.members(QUESTION).await,
                Err(error) => Err(error),
            };
            let last = match (listed, asked) {
                (Ok(members), _) if done(&members) => return Ok(()),
                (_, Err(error)) | (Err(error), Ok(())) => TalkError::Api(error),
                (Ok(_), Ok(())) => TalkError::Api(ApiError::NoLeader {
                    member: self.member.server.clone(),
                }),
            };
            if Instant::now() >= self.deadline {
                let server = self.member.server.clone();
                return Err(BringUpError::Membership {
                    server,
                    what,
                    last: Box::new(last),
                });
            }
            tracing::debug!(what, %last, "not yet");
            if self.road.pause(Duration::from_millis(500)).await.is_err() {
                return Err(BringUpError::Stopped { runs: false });
            }
        }
    }
}
