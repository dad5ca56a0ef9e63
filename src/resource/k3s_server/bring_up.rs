//! A k3s server is brought up: it founds, joins or goes on, one server of the cluster at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::alike::place;
use super::errors::BringUpError;
use super::install::{self, Installed, Permit};
use super::model::{K3sServerModel, shared};
use crate::etcd::api::{Member, TlsMaterial};
use crate::host::{Host, Secret};
use crate::membership::k3s::shared::{Entry, Shared, entry};
use crate::membership::k3s::{Join, Refusal, Restart, Resume, Start, join, restart, resume, start};
use crate::reconcile::session::{Restarting, Session};
use crate::resource::claim::Claim;
use crate::resource::cluster::model::ClusterModel;
use crate::resource::cluster::servers::on_each;
use crate::resource::k3s::{API_PORT, directory, observe, talk};
use crate::resource::member::hand_over::hand_over;
use crate::resource::member::survey::Survey;
use crate::resource::member::turn::{Turn, TurnError, take_lock};
use crate::resource::road::Road;
use crate::topology::{Topology, Translation};

const QUESTION: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);

/// A server that is to run.
pub struct BringUp<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The server.
    pub server: &'a K3sServerModel,
    /// Its cluster's topology.
    pub topology: &'a Topology,
    /// None where k3s has no etcd of its own.
    pub translation: Option<&'a Translation>,
    /// The same cluster as those see it that talk to etcd.
    pub etcd: &'a ClusterModel,
    /// Its options.
    pub configuration: &'a str,
    /// The cluster's token.
    pub token: Option<&'a Secret>,
    /// It must be up by then.
    pub deadline: Instant,
    /// The object that is to have it.
    pub claim: &'a Claim,
    /// When it was first kept from what it has to do by something that may pass.
    pub refused: OnceLock<Instant>,
}

/// One that runs.
pub struct Up {
    /// What is on the server.
    pub installed: Installed,
    /// The program there.
    pub binary: String,
    /// Its version.
    pub version: String,
}

/// What comes next.
pub(super) enum Next {
    Done,
    Again,
    /// The turn goes to others meanwhile.
    Yield,
}

impl BringUp<'_> {
    /// Brings it up.
    ///
    /// # Errors
    /// If that did not succeed, or is not allowed.
    pub async fn run(&self) -> Result<Up, BringUpError> {
        self.session().announce_coming(&self.server.server);
        let host = self.host(&self.server.server).await?;
        let before = install::look(&host, self.server, "").await?;
        let folder = directory(&self.server.cluster.name);
        if !before.is_nothing() {
            self.claim.take(&host, &folder, before.object.as_ref()).await?;
        }
        let outcome = self.bring_up(&host).await;
        if outcome.is_err() {
            self.claim.give_back(&host, &folder, before.object.as_ref()).await;
        }
        outcome
    }

    pub(super) fn session(&self) -> Arc<Session> {
        self.road.session(self.server.cluster.id())
    }

    async fn bring_up(&self, host: &Host) -> Result<Up, BringUpError> {
        let (binary, version) = install::provide(host, self.server, self.remaining()).await?;
        let seen = install::look(host, self.server, "").await?;
        let changes = seen.runs() && (seen.pending || !seen.is(self.server, self.configuration, &binary));
        let mut waiting = match changes {
            true => Some(self.session().restarting(&self.server.server)),
            false => None,
        };
        let mut moved = false;
        loop {
            let mut turn = Turn::take(&self.session(), self.deadline)
                .await
                .map_err(|late| self.not_its_turn(late.into()))?;
            let next = self.with_turn(host, &binary, &mut turn, &mut waiting, &mut moved).await;
            turn.end().await;
            match next? {
                Next::Done => break,
                Next::Again => {}
                Next::Yield => self.road.pause(AGAIN).await?,
            }
        }
        let installed = install::look(host, self.server, "").await?;
        Ok(Up {
            installed,
            binary,
            version,
        })
    }

    async fn with_turn(
        &self,
        host: &Host,
        binary: &str,
        turn: &mut Turn,
        waiting: &mut Option<Restarting>,
        moved: &mut bool,
    ) -> Result<Next, BringUpError> {
        let name = &self.server.server;
        let seen = install::look(host, self.server, "").await?;
        let fits = seen.is(self.server, self.configuration, binary);
        if seen.runs() && seen.has_old_guard(&self.server.cluster.name) {
            host.run_checked(&install::guard(&self.server.cluster.name)).await?;
        }
        if seen.runs() && (seen.pending || !fits) {
            return self.restart(host, binary, turn, waiting.as_ref(), moved).await;
        }
        // It is no restart any more that the leader waits for: to join it may have to wait for the leader's.
        *waiting = None;
        if self.translation.is_none() {
            if !seen.runs() {
                self.begin(host, binary, self.token, &Permit::None).await?;
            }
            self.until_ready(host).await?;
            return Ok(Next::Done);
        }
        let cluster = &self.server.cluster;
        let within = QUESTION * 3;
        let observed = on_each(self.road, &cluster.servers, within, false, |_, host| async move {
            observe::observe(&host, cluster).await
        })
        .await;
        let servers = observe::seen(&observed);
        match start(cluster.id(), name, &servers) {
            Start::Refuse(server, refusal) => Err(BringUpError::Refused { server, refusal }),
            Start::Await(_) if self.remaining() > AGAIN * 2 => Ok(Next::Yield),
            Start::Await(server) => Err(self.not_now(format!("server {server} founds the cluster, and is not ready"))),
            Start::Found => {
                self.begin(host, binary, self.token, &Permit::Found).await?;
                self.until_ready(host).await?;
                Ok(Next::Done)
            }
            Start::TakePermit(other) => {
                if !self.take_permit(&other).await? {
                    return Ok(Next::Again);
                }
                self.begin(host, binary, self.token, &Permit::Found).await?;
                self.until_ready(host).await?;
                Ok(Next::Done)
            }
            Start::SetAside => {
                self.set_aside(host).await?;
                Ok(Next::Again)
            }
            Start::Resume => {
                let tls = talk::borrowed(self.road, cluster, "").await;
                let survey = self.survey(tls.as_ref()).await;
                if let Some(survey) = &survey
                    && let Some(next) = self.unlisted(host, survey, tls.as_ref(), turn).await?
                {
                    return Ok(next);
                }
                if seen.runs() {
                    return self.until_voter(host, None).await;
                }
                let others_alive = survey.is_some();
                self.begin(host, binary, None, &Permit::None).await?;
                if !others_alive {
                    // Where too few run for a quorum the others are started after this one.
                    return Ok(Next::Done);
                }
                self.until_ready(host).await?;
                self.until_voter(host, None).await
            }
            Start::Join(through) => {
                let options = observed.iter().filter_map(|(name, outcome)| {
                    let options = outcome.as_ref().ok()?.options.as_deref().unwrap_or_default();
                    through.contains(name).then(|| (name.clone(), shared(options)))
                });
                self.join(host, binary, turn, &options.collect()).await
            }
        }
    }

    /// Sees to a server whose member is not in the list, before anything waits for it. A member that was removed can't come
    /// back with its data.
    async fn unlisted(
        &self,
        host: &Host,
        survey: &Survey,
        tls: Option<&TlsMaterial>,
        turn: &mut Turn,
    ) -> Result<Option<Next>, BringUpError> {
        match self.resumes(survey) {
            Resume::GoOn => Ok(None),
            Resume::Refuse(why) => self.yield_or(&why).map(Some),
            Resume::SetAside => {
                let locked = turn.lock(take_lock(survey, self.deadline)).await;
                if locked.map_err(|source| self.not_its_turn(source))? {
                    // Another run was at work: it may have been added again.
                    let now = self.survey(tls).await;
                    if now.is_none_or(|now| self.resumes(&now) != Resume::SetAside) {
                        return Ok(Some(Next::Yield));
                    }
                }
                self.set_aside(host).await?;
                Ok(Some(Next::Again))
            }
        }
    }

    fn resumes(&self, survey: &Survey) -> Resume {
        match self.is_named(survey) {
            true => Resume::GoOn,
            false => resume(Some(self.standing(survey).0), self.is_apart(survey)),
        }
    }

    /// Starts it, and has it become a voter, through one of these servers with these options.
    async fn join(
        &self,
        host: &Host,
        binary: &str,
        turn: &mut Turn,
        through: &BTreeMap<String, Shared>,
    ) -> Result<Next, BringUpError> {
        let name = &self.server.server;
        let tls = talk::borrowed(
            self.road,
            &self.server.cluster,
            through.keys().next().map_or("", String::as_str),
        )
        .await;
        let Some(mut survey) = self.survey(tls.as_ref()).await else {
            return self.yield_or("no server of the cluster answers as one whose etcd has a leader, so there is nothing to join. Bring the others back first");
        };
        if turn
            .lock(take_lock(&survey, self.deadline))
            .await
            .map_err(|source| self.not_its_turn(source))?
        {
            match self.survey(tls.as_ref()).await {
                Some(now) => survey = now,
                None => return Ok(Next::Yield),
            }
        }
        let (listed, others) = self.standing(&survey);
        match join(listed, others) {
            Join::Start => {}
            Join::RemoveOld => {
                let Some(id) = survey.list.own else {
                    return Ok(Next::Again);
                };
                let gone = |members: &[Member]| members.iter().all(|one| one.id != id);
                self.listed("taking its old member out of the cluster", &survey, gone, || {
                    survey.api.member_remove(id, QUESTION)
                })
                .await?;
                self.forget(host).await?;
                return Ok(Next::Again);
            }
            Join::PromoteOther => {
                let learner = survey
                    .members
                    .iter()
                    .find(|one| one.is_learner && Some(one.id) != survey.list.own);
                let Some(id) = learner.map(|one| one.id) else {
                    return Ok(Next::Again);
                };
                self.vote(&survey, id).await?;
                return Ok(Next::Again);
            }
            Join::Refuse(why) => return self.yield_or(&why),
        }
        if !self.fits_in(&survey, through)? {
            return Ok(Next::Yield);
        }
        let (url, token) = self.way_in(&survey, through).await?;
        self.begin(host, binary, Some(&token), &Permit::Join(url)).await?;
        tracing::debug!(server = name, "joining");
        let outcome = self.until_voter(host, tls.as_ref()).await?;
        self.until_ready(host).await?;
        Ok(outcome)
    }

    /// Whether the servers that run have the options that it is to have, or have it wait.
    fn fits_in(&self, survey: &Survey, through: &BTreeMap<String, Shared>) -> Result<bool, BringUpError> {
        let mut running = through.clone();
        let answering = survey.list.answering();
        running.retain(|name, _| answering.contains(name));
        let restarts_wait = self.session().restarts_wait();
        let (patience, (other, differences)) = match entry(&shared(self.configuration), &running, restarts_wait) {
            Entry::Open => return Ok(true),
            Entry::Await(other, differences) => (self.remaining().saturating_sub(AGAIN * 2), (other, differences)),
            Entry::Differs(other, differences) => (self.patience(), (other, differences)),
        };
        if !patience.is_zero() {
            return Ok(false);
        }
        let at = differences.first().map_or("", |one| one.option);
        Err(BringUpError::Differs {
            server: self.server.server.clone(),
            at: place(self.server.config.as_ref(), at),
            other,
            differences,
        })
    }

    /// Through whom it joins, one of its own network by preference, and the token that says whose authority to trust.
    async fn way_in(
        &self,
        survey: &Survey,
        through: &BTreeMap<String, Shared>,
    ) -> Result<(String, Secret), BringUpError> {
        let own = self.topology.find(&self.server.server).ok();
        let near = |name: &String| {
            let other = self.topology.find(name).ok();
            other.map(|(_, other)| &other.network) != own.map(|(_, own)| &own.network)
        };
        let mut ways: Vec<String> = { survey.list.answering().into_iter() }
            .filter(|name| through.contains_key(name))
            .collect();
        ways.sort_by_key(near);
        for name in ways {
            let Ok(address) = self.topology.dials(&self.server.server, &name) else {
                continue;
            };
            let host = self.host(&name).await?;
            if let Some(token) = install::look(&host, self.server, "").await?.join_token {
                let url = std::net::SocketAddr::new(address.ip(), API_PORT);
                return Ok((format!("https://{url}"), token));
            }
        }
        Err(self.not_now(
            "no server that it could join through has a token in /var/lib/rancher/k3s/server/token".to_owned(),
        ))
    }

    /// What changed needs a restart, which waits for its turn and for the others' health.
    async fn restart(
        &self,
        host: &Host,
        binary: &str,
        turn: &mut Turn,
        waiting: Option<&Restarting>,
        moved: &mut bool,
    ) -> Result<Next, BringUpError> {
        if let Some(failed) = waiting.and_then(Restarting::failed) {
            return Err(self.not_now(format!(
                "{failed} did not come back from its own restart, and one at a time is enough"
            )));
        }
        if self.translation.is_some() {
            let tls = talk::borrowed(self.road, &self.server.cluster, &self.server.server).await;
            let Some(mut survey) = self.survey(tls.as_ref()).await else {
                return self.yield_or("no server of the cluster answers as one whose etcd has a leader");
            };
            if turn
                .lock(take_lock(&survey, self.deadline))
                .await
                .map_err(|source| self.not_its_turn(source))?
            {
                match self.survey(tls.as_ref()).await {
                    Some(now) => survey = now,
                    None => return Ok(Next::Yield),
                }
            }
            if let Some(next) = self.unlisted(host, &survey, tls.as_ref(), turn).await? {
                return Ok(next);
            }
            let (_, others) = self.standing(&survey);
            let others_wait = waiting.is_some_and(Restarting::others_wait);
            match restart(others, survey.list.leads(), others_wait, *moved) {
                Restart::Now => {}
                Restart::LetOthersFirst => return Ok(Next::Yield),
                Restart::MoveLeader => {
                    *moved = true;
                    if let Some(talk) = self.talk(tls.as_ref())
                        && let Err(error) = hand_over(&talk, &survey).await
                    {
                        // It costs an election and nothing more.
                        tracing::debug!(%error, "the leader could not be moved");
                    }
                    return Ok(Next::Again);
                }
                Restart::Refuse(why) => return self.yield_or(&why),
            }
        }
        let outcome = async {
            self.begin(host, binary, None, &Permit::None).await?;
            self.until_ready(host).await?;
            match self.translation {
                Some(_) => self.until_voter(host, None).await,
                None => Ok(Next::Done),
            }
        };
        let outcome = outcome.await;
        if let (Err(_), Some(waiting)) = (&outcome, waiting) {
            waiting.fail();
        }
        outcome
    }

    pub(super) async fn host(&self, name: &str) -> Result<Host, BringUpError> {
        let Some(server) = self.server.cluster.servers.get(name) else {
            return Err(BringUpError::Refused {
                server: name.to_owned(),
                refusal: Refusal::Unreached("it is none of the cluster's servers".to_owned()),
            });
        };
        Ok(self
            .road
            .connect(server, self.remaining().min(QUESTION * 6), false)
            .await?)
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn not_now(&self, why: String) -> BringUpError {
        BringUpError::NotNow {
            server: self.server.server.clone(),
            why,
        }
    }

    fn not_its_turn(&self, source: TurnError) -> BringUpError {
        BringUpError::Turn {
            server: self.server.server.clone(),
            source,
        }
    }

    /// What may pass within half a minute is waited for.
    fn yield_or(&self, why: &str) -> Result<Next, BringUpError> {
        match self.patience().is_zero() {
            false => Ok(Next::Yield),
            true => Err(self.not_now(why.to_owned())),
        }
    }

    /// What is left of that time; it begins with the first question.
    fn patience(&self) -> Duration {
        let whole = Duration::from_secs(30).min(self.remaining());
        whole.saturating_sub(self.refused.get_or_init(Instant::now).elapsed())
    }
}
