//! The single steps of bringing a k3s server up.

use std::time::Duration;

use tokio::time::Instant;

use super::bring_up::{BringUp, Next};
use super::errors::BringUpError;
use super::install::{self, Permit};
use crate::etcd::api::{ApiError, Member, TlsMaterial};
use crate::etcd::metrics::active_peers;
use crate::host::{Host, PRIVILEGE, Script, Secret};
use crate::membership::k3s::{Listed, Others};
use crate::resource::cluster::servers::{root_file, stamp};
use crate::resource::k3s::{DATA, directory, talk};
use crate::resource::member::membership_changes::{Unlisted, until_listed};
use crate::resource::member::survey::{Survey, survey_as};
use crate::resource::road::RoadError;
use crate::resource::silence::Waited;
use crate::resource::talk::{Talk, TalkError};

const QUESTION: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);
/// How long links may take that were only just made: etcd dials again every few seconds.
const LINKS: Duration = Duration::from_secs(40);

impl<'a> BringUp<'a> {
    /// Who talks to the cluster's etcd, with this certificate.
    pub(super) fn talk(&self, tls: Option<&TlsMaterial>) -> Option<Talk<'a>> {
        let talk = Talk::new(self.road, self.etcd, self.topology, Some(tls?.clone()));
        Some(talk.with_peer_urls(self.translation?.peer_urls()))
    }

    /// The cluster as its etcd members see it; `None` if none of them answers as one that has a leader.
    pub(super) async fn survey(&self, tls: Option<&TlsMaterial>) -> Option<Survey> {
        survey_as(&self.talk(tls)?, &self.server.server, None, self.topology).await
    }

    /// How this server stands in the cluster, and how the others do.
    pub(super) fn standing(&self, survey: &Survey) -> (Listed, Others) {
        let own = survey.members.iter().find(|one| Some(one.id) == survey.list.own);
        let listed = match own {
            None => Listed::Not,
            Some(one) if !one.has_started() => Listed::Unstarted,
            Some(one) => Listed::Started { voter: !one.is_learner },
        };
        let others = survey.members.iter().filter(|one| Some(one.id) != survey.list.own);
        let (learners, voters): (Vec<_>, Vec<_>) = others.partition(|one| one.is_learner);
        let answers = |one: &Member| survey.healthy.contains_key(&one.id);
        let others = Others {
            voters: voters.len(),
            healthy: voters.iter().filter(|one| answers(one)).count(),
            learner: learners.first().map(|one| answers(one)),
        };
        (listed, others)
    }

    /// Whether this server's etcd answers, and is not in the member list that a quorum of the cluster confirmed.
    pub(super) fn is_apart(&self, survey: &Survey) -> bool {
        let strangers = { survey.healthy.keys() }.filter(|id| survey.members.iter().all(|one| one.id != **id));
        survey.list.own.is_none() && strangers.count() > 0
    }

    /// Whether a member has this server's name, of whatever address. k3s appends eight characters of its own.
    pub(super) fn is_named(&self, survey: &Survey) -> bool {
        let node = self.server.node();
        let named = |one: &Member| one.name.rsplit_once('-').is_some_and(|(name, _)| name == node);
        survey.list.own.is_none() && survey.members.iter().any(named)
    }

    /// Takes the right to found from another server. Whether it was there still.
    pub(super) async fn take_permit(&self, other: &str) -> Result<bool, BringUpError> {
        let host = self.host(other).await?;
        // What is renamed was there, and is nobody else's: the start of k3s there removes it too.
        let script = Script::new("taking the permit to found")
            .set("etc", directory(&self.server.cluster.name))
            .line("if mv -T \"$etc/founding-permit\" \"$etc/founding-permit.taken\" 2>/dev/null; then rm -f \"$etc/founding-permit.taken\"; sync \"$etc\" 2>/dev/null || sync; tell taken yes; fi");
        Ok(host.run_checked(&script).await?.value("taken").is_some())
    }

    /// Brings files into place, and starts it.
    pub(super) async fn begin(
        &self,
        host: &Host,
        binary: &str,
        token: Option<&Secret>,
        permit: &Permit,
    ) -> Result<(), BringUpError> {
        let object = self.claim.file(&directory(&self.server.cluster.name));
        let script = install::start(self.server, self.configuration, binary, token, permit, object);
        host.run_checked(&script).await?;
        Ok(())
    }

    /// Waits until k3s says that it is ready.
    pub(super) async fn until_ready(&self, host: &Host) -> Result<(), BringUpError> {
        let etc = directory(&self.server.cluster.name);
        // That the cluster is founded is a mark that outlives the data.
        let done = Script::new("noting that k3s runs")
            .set("etc", &etc)
            .line("rm -f \"$etc/restart-pending\"")
            .line(PRIVILEGE)
            .write_file(&root_file(format!("{etc}/founded"), self.server.cluster.id()));
        loop {
            let output = host
                .run_checked(&Script::new("waiting for k3s").line(include_str!("ready.sh")))
                .await?;
            let state = output.value("state").unwrap_or_default();
            if state == "active" {
                host.run_checked(&done).await?;
                return Ok(());
            }
            let restarts = output.value("restarts").and_then(|count| count.parse::<u32>().ok());
            let failed = state == "failed" || restarts.is_some_and(|count| count >= 4);
            if failed || self.remaining() < AGAIN {
                let what = match failed {
                    true => "ends again and again".to_owned(),
                    false => "runs, and was not ready in time".to_owned(),
                };
                return Err(BringUpError::NotReady {
                    server: self.server.server.clone(),
                    what,
                    log: output.values("log").collect::<Vec<_>>().join("\n"),
                });
            }
            self.road.pause(AGAIN / 4).await?;
        }
    }

    /// Waits until the server's member is in the list, makes a voter of it when it has caught up, and verifies every directed pair.
    pub(super) async fn until_voter(&self, host: &Host, tls: Option<&TlsMaterial>) -> Result<Next, BringUpError> {
        let borrowed = match tls {
            Some(_) => None,
            None => talk::borrowed(self.road, &self.server.cluster, &self.server.server).await,
        };
        let tls = tls.or(borrowed.as_ref());
        loop {
            let survey = self.survey(tls).await;
            let own = survey
                .as_ref()
                .and_then(|survey| survey.members.iter().find(|one| Some(one.id) == survey.list.own));
            match (&survey, own) {
                (Some(survey), Some(own)) if !own.is_learner && survey.healthy.contains_key(&own.id) => {
                    return self.verify(survey).await;
                }
                (Some(survey), Some(own)) if own.is_learner && own.has_started() => self.vote(survey, own.id).await?,
                _ => {
                    let script = Script::new("waiting for k3s").line(
                        "tell state \"$(systemctl show -p ActiveState --value k3s.service)\"; tell restarts \"$(systemctl show -p NRestarts --value k3s.service)\"",
                    );
                    let output = host.run_checked(&script).await?;
                    let restarts = output.value("restarts").and_then(|count| count.parse::<u32>().ok());
                    if output.value("state") == Some("failed") || restarts.is_some_and(|count| count >= 4) {
                        // Says why.
                        return self.until_ready(host).await.map(|()| Next::Again);
                    }
                }
            }
            if self.remaining() < AGAIN {
                return self.until_ready(host).await.and(Err(BringUpError::NotNow {
                    server: self.server.server.clone(),
                    why: "k3s runs there, and its etcd did not become a voter in time".to_owned(),
                }));
            }
            self.road.pause(AGAIN / 2).await?;
        }
    }

    /// Makes a voter of a learner, when it has caught up. k3s does so too, every 15 seconds.
    pub(super) async fn vote(&self, survey: &Survey, id: u64) -> Result<(), BringUpError> {
        let votes = |members: &[Member]| members.iter().any(|one| one.id == id && !one.is_learner);
        self.listed("making a voter of it", survey, votes, || {
            survey.api.member_promote(id, QUESTION)
        })
        .await
    }

    pub(super) async fn listed<F: Future<Output = Result<(), ApiError>>>(
        &self,
        what: &'static str,
        survey: &Survey,
        done: impl Fn(&[Member]) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<(), BringUpError> {
        let outcome = until_listed(self.road, self.deadline, &survey.api, done, ask, || {
            self.end_silence(survey)
        })
        .await;
        outcome.map_err(|unlisted| match unlisted {
            Unlisted::Stopped => RoadError::Stopped.into(),
            Unlisted::Late(last) => BringUpError::Membership {
                server: self.server.server.clone(),
                what,
                last: Box::new(TalkError::Api(last.unwrap_or_else(|| ApiError::NoLeader {
                    member: self.server.server.clone(),
                }))),
            },
        })
    }

    async fn end_silence(&self, survey: &Survey) {
        talk::end_silence(self.road, &self.server.cluster, self.translation, &survey.names).await;
    }

    /// Waits until every member that answers is connected to every other one.
    async fn verify(&self, survey: &Survey) -> Result<Next, BringUpError> {
        let until = self.deadline.min(Instant::now() + LINKS);
        let mut waited = Waited::from_now();
        let servers: Vec<String> = survey.list.answering().into_iter().collect();
        loop {
            let connected = active_peers(&talk::metrics_of(self.road, &self.server.cluster, &servers).await);
            let mut missing = Vec::new();
            for (id, name) in &survey.names {
                if !survey.healthy.contains_key(id) {
                    continue;
                }
                for (from, peers) in &connected {
                    if from != name && !peers.contains(id) {
                        missing.push(format!("{from} is not connected to {name}"));
                    }
                }
            }
            if missing.is_empty() {
                return Ok(Next::Done);
            }
            // What is missing may take that restart: a server whose address has moved holds connections that are none any more.
            if self.session().only_others_restart(&self.server.server) {
                return Ok(Next::Yield);
            }
            if Instant::now() >= until {
                return Err(BringUpError::Links(missing));
            }
            waited.mend(self.end_silence(survey)).await;
            self.road.pause(AGAIN / 2).await?;
        }
    }

    /// Keeps the data of a server aside that was taken out of the cluster.
    pub(super) async fn set_aside(&self, host: &Host) -> Result<(), BringUpError> {
        let script = Script::new("keeping the data of the removed member aside")
            .set("db", format!("{DATA}/server/db"))
            .set("aside", format!("{DATA}/server/db.removed-{}", stamp()))
            .set("etc", directory(&self.server.cluster.name))
            .line("systemctl stop k3s.service 2>/dev/null || true")
            // It joins by a permit that it is given when it is to.
            .line("rm -f \"$etc/founding-permit\" \"$etc/joining-permit\"; sync \"$etc\" 2>/dev/null || sync")
            .line("if [ -d \"$db\" ]; then mv -T \"$db\" \"$aside\"; fi");
        host.run_checked(&script).await?;
        Ok(())
    }

    /// What a server still has that lost its data is kept aside: the name of a member that is no more, and whatever else lies there.
    pub(super) async fn forget(&self, host: &Host) -> Result<(), BringUpError> {
        let script = Script::new("clearing what the old member left")
            .set("etcd", format!("{DATA}/server/db/etcd"))
            .set("aside", format!("{DATA}/server/db/etcd.removed-{}", stamp()))
            .line("systemctl stop k3s.service 2>/dev/null || true")
            .line("if [ -d \"$etcd\" ]; then mv -T \"$etcd\" \"$aside\"; fi");
        host.run_checked(&script).await?;
        Ok(())
    }
}
