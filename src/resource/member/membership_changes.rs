//! The changes of the member list that bringing a member up may need, through whichever other member answers.
//! [`crate::membership::member`] says which and when.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::bring_up::{BringUp, Course};
use super::errors::BringUpError;
use super::hang_up::hang_up;
use super::survey::{Survey, survey};
use super::talk::{Talk, TalkError};
use crate::etcd::api::{Api, ApiError, Member};
use crate::host::{Host, Output, PRIVILEGE, RunError, Script};
use crate::membership::member::{Cluster, PeerUrl};
use crate::reconcile::limits::Stopped;
use crate::resource::cluster::servers::{on_each, stamp};
use crate::resource::road::{Road, RoadError};
use crate::resource::silence::Waited;

const QUESTION: Duration = Duration::from_secs(5);
/// How long the members may take to see a changed hosts file: Go keeps what it read of it for 5 s
/// (`net/hosts.go`, `cacheMaxAge`).
pub(super) const RESOLVER: Duration = Duration::from_secs(6);
/// Says how old a server's hosts file is.
pub(super) const HOSTS_AGE: &str = "tell age \"$(($(date +%s) - $(stat -L -c %Y /etc/hosts)))\"";

/// How old the hosts file is, as the server says.
pub(super) fn hosts_age(said: &Output) -> Duration {
    let seconds = said.value("age").and_then(|age| age.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

impl BringUp<'_> {
    /// What the other members say of the cluster and of this member.
    pub(super) async fn look_at_cluster(&self, talk: &Talk<'_>) -> (Cluster, Option<Survey>) {
        let Some(survey) = survey(talk, self.member, self.topology).await else {
            return (Cluster::NoQuorum, None);
        };
        let listed = survey.members.iter().find(|member| Some(member.id) == survey.list.own);
        let lives = survey.list.lives(self.listed_url(listed));
        (Cluster::Lives(lives), Some(survey))
    }

    fn listed_url(&self, listed: Option<&Member>) -> PeerUrl {
        match (listed, self.own_peer_url()) {
            // What is taken over has its former peer URLs until the end of that.
            (Some(listed), Ok(wanted)) if self.member.cluster.adopted_from.is_none() || self.moved.peer_url => {
                PeerUrl::of(&listed.peer_urls, &wanted)
            }
            _ => PeerUrl::Wanted,
        }
    }

    /// Adds the wanted peer URL to what the member list has of it.
    pub(super) async fn add_url(&self, survey: Option<Survey>) -> Result<(), BringUpError> {
        let Some((survey, own)) = own_entry(survey) else {
            return Ok(());
        };
        let mut urls = own.peer_urls;
        urls.push(self.own_peer_url()?);
        self.update_urls("adding its new peer URL", &survey, own.id, &urls)
            .await
    }

    /// Makes the wanted peer URL the only one, once the others are connected with the member there.
    pub(super) async fn settle_url(&self, host: &Host, course: &mut Course) -> Result<(), BringUpError> {
        let Some((survey, own)) = own_entry(course.survey.take()) else {
            return Ok(());
        };
        self.verify(host, course.scope.as_ref()).await?;
        let urls = [self.own_peer_url()?];
        self.update_urls("taking out its former peer URL", &survey, own.id, &urls)
            .await
    }

    /// Gives a member other peer URLs.
    pub(super) async fn update_urls(
        &self,
        what: &'static str,
        survey: &Survey,
        id: u64,
        urls: &[String],
    ) -> Result<(), BringUpError> {
        let wanted: BTreeSet<&String> = urls.iter().collect();
        let changed = |members: &[Member]| {
            let own = members.iter().find(|one| one.id == id);
            own.is_some_and(|one| one.peer_urls.iter().collect::<BTreeSet<_>>() == wanted)
        };
        let update = || survey.api.member_update(id, urls, QUESTION);
        self.until_listed(what, &survey.api, changed, update).await
    }

    /// Keeps the data of a member that was taken out of the cluster aside.
    pub(super) async fn set_aside(&self, host: &Host) -> Result<(), RunError> {
        let script = Script::new("keeping the data of the removed member aside")
            .set("unit", self.layout.unit_name())
            .set("data", self.layout.data_dir().as_str())
            .set("user", self.layout.user())
            .set("aside", format!("{}.removed-{}", self.layout.data_dir(), stamp()))
            .line("systemctl stop \"$unit\" 2>/dev/null || true")
            .line(PRIVILEGE)
            .line("put_aside \"$data\" \"$user\" \"$aside\"");
        host.run_checked(&script).await.map(drop)
    }

    /// Takes the member that lost its data out of the member list.
    pub(super) async fn remove_old(&self, survey: &Survey) -> Result<(), BringUpError> {
        let Some(id) = survey.list.own else { return Ok(()) };
        hang_up(self.road, self.member, self.topology, self.layout, survey).await;
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
        let urls = [peer_url.to_owned()];
        self.until_listed(
            "adding it to the cluster as a learner",
            &survey.api,
            |members| members.iter().any(|one| one.peer_urls == urls),
            || async { survey.api.member_add_learner(&urls, QUESTION).await.map(drop) },
        )
        .await?;
        self.until_resolved()
            .await
            .map_err(|_| BringUpError::Stopped { runs: false })
    }

    /// Waits until the other members see what stands in their hosts files. A server that does not say since when that stands there is given all of the time.
    async fn until_resolved(&self) -> Result<(), RoadError> {
        let mut others = self.member.cluster.servers.clone();
        others.retain(|name, _| *name != self.member.server);
        let ages = on_each(self.road, &others, QUESTION, false, |_, host| async move {
            let script = Script::new("looking how old the hosts file is").line(HOSTS_AGE);
            match timeout(QUESTION, host.run_checked(&script)).await {
                Ok(output) => Ok(hosts_age(&output?)),
                Err(_) => Ok(Duration::ZERO),
            }
        });
        let youngest = ages.await.into_values().map(Result::unwrap_or_default).min();
        let wait = RESOLVER.saturating_sub(youngest.unwrap_or_default());
        self.road.pause(wait).await
    }

    /// Takes another one out of the member list that never voted.
    pub(super) async fn remove_other(&self, survey: &Survey) -> Result<(), BringUpError> {
        let Some(id) = survey.list.never_voted().map(|one| one.id) else {
            return Ok(());
        };
        tracing::debug!(id, "removing a member that never voted");
        let gone = |members: &[Member]| members.iter().all(|one| one.id != id);
        let remove = || survey.api.member_remove(id, QUESTION);
        self.until_listed("removing a member that never voted", &survey.api, gone, remove)
            .await
    }

    /// Makes a voter of another server's learner.
    pub(super) async fn promote_other(&self, survey: &Survey) -> Result<(), BringUpError> {
        match survey.list.other_learner() {
            Some(one) => {
                self.vote("making a voter of a learner that was left", survey, one.id)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Makes a voter of the learner.
    pub(super) async fn promote(&self, survey: &Survey) -> Result<(), BringUpError> {
        match survey.list.own {
            Some(id) => self.vote("making a voter of it", survey, id).await,
            None => Ok(()),
        }
    }

    /// Makes a voter of a learner, when it has caught up. The leader knows whether it has; a follower asks it in nobody's name, and
    /// is refused where access control is on (before 3.5.28 and 3.6.6).
    async fn vote(&self, what: &'static str, survey: &Survey, id: u64) -> Result<(), BringUpError> {
        let leader = survey.leading.as_ref().unwrap_or(&survey.api);
        self.until_listed(
            what,
            &survey.api,
            |members| members.iter().any(|one| one.id == id && !one.is_learner),
            || leader.member_promote(id, QUESTION),
        )
        .await
    }

    pub(super) async fn until_listed<F: Future<Output = Result<(), ApiError>>>(
        &self,
        what: &'static str,
        api: &Api,
        done: impl Fn(&[Member]) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<(), BringUpError> {
        let outcome = until_listed(self.road, self.deadline, api, done, ask, || self.end_silence()).await;
        outcome.map_err(|unlisted| match unlisted {
            Unlisted::Stopped => BringUpError::Stopped { runs: false },
            Unlisted::Late(last) => BringUpError::Membership {
                server: self.member.server.clone(),
                what,
                last: Box::new(TalkError::Api(last.unwrap_or_else(|| ApiError::NoLeader {
                    member: self.member.server.clone(),
                }))),
            },
        })
    }
}

/// The survey with what its member list has of the member itself.
fn own_entry(survey: Option<Survey>) -> Option<(Survey, Member)> {
    let survey = survey?;
    let own = survey
        .members
        .iter()
        .find(|one| Some(one.id) == survey.list.own)
        .cloned()?;
    Some((survey, own))
}

/// Why the member list does not show a change.
#[derive(Debug)]
pub enum Unlisted {
    /// Terraform asked to stop.
    Stopped,
    /// Its time was up; what the last try gave, if not only a list that is as before.
    Late(Option<ApiError>),
}

impl Unlisted {
    /// Why a member that was to leave is in the list still, and what to do.
    pub fn of_removal(&self) -> String {
        let seen = match self {
            Self::Stopped => return Stopped.to_string(),
            Self::Late(Some(error)) => format!("The cluster did not let it go: {error}."),
            Self::Late(None) => "It is still in the member list.".to_owned(),
        };
        format!(
            "{seen} The list is changed by a quorum of the voting members: see that those which are down or cut off run and reach each other, and \
             apply again."
        )
    }
}

/// Asks for a change until the member list shows it: a change may time out and still be made, and etcd refuses some
/// for a while (peers must have been connected for 5 s, a learner must have caught up). Where that takes long, `mend` what may be in the way.
pub async fn until_listed<F: Future<Output = Result<(), ApiError>>, M: Future<Output = ()>>(
    road: &Road,
    deadline: Instant,
    api: &Api,
    done: impl Fn(&[Member]) -> bool,
    ask: impl Fn() -> F,
    mend: impl Fn() -> M,
) -> Result<(), Unlisted> {
    let mut waited = Waited::from_now();
    loop {
        let asked = ask().await;
        let listed = match api.confirm_quorum(QUESTION).await {
            Ok(()) => api.members(QUESTION).await,
            Err(error) => Err(error),
        };
        let last = match (listed, asked) {
            (Ok(members), _) if done(&members) => return Ok(()),
            (_, Err(error)) | (Err(error), Ok(())) => Some(error),
            (Ok(_), Ok(())) => None,
        };
        if Instant::now() >= deadline {
            return Err(Unlisted::Late(last));
        }
        tracing::info!(?last, "waiting for the member list to change");
        waited.mend(mend()).await;
        if road.pause(Duration::from_millis(500)).await.is_err() {
            return Err(Unlisted::Stopped);
        }
    }
}
