//! What a refresh says of a member and its cluster beside the attributes: no quorum, alarms, a process that ends again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Whole;
use super::down::{lines, who_is_down};
use super::log;
use super::observe::Seen;
use super::talk::Talk;
use crate::etcd::api::{Api, Status};
use crate::host::Host;
use crate::membership::quorum;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::road::Road;

const QUESTION: Duration = Duration::from_secs(5);

/// What is looked at.
pub struct Complaints<'a> {
    /// The road to the servers.
    pub road: &'a Road,
    /// The member.
    pub whole: &'a Whole,
    /// Who talks to the members.
    pub talk: &'a Talk<'a>,
}

impl Complaints<'_> {
    /// Of a member whose service does not run.
    pub async fn of_stopped(&self) -> Diagnostics {
        self.quorum().await.into_iter().collect()
    }

    /// Of a member that answers.
    pub async fn of_status(&self, api: &Api, status: &Status) -> Diagnostics {
        if !status.has_leader() {
            return self.quorum().await.into_iter().collect();
        }
        if status.errors.is_empty() {
            return Diagnostics::new();
        }
        self.alarms(api).await.into_iter().collect()
    }

    /// A warning if too few members take part in the cluster. Once for a cluster and run.
    async fn quorum(&self) -> Option<Diagnostic> {
        let cluster = &self.whole.member.cluster;
        let unit = self.whole.layout.unit_name();
        let down = who_is_down(Some(self.talk), self.road, cluster, &unit).await;
        let (servers, needed) = (cluster.servers.len(), quorum(cluster.servers.len()));
        let well = servers.saturating_sub(down.len());
        if well >= needed || !self.road.session(cluster.token()).says_first("quorum") {
            return None;
        }
        let detail = format!(
            "{well} of its {servers} members take part in it, and {needed} have to agree: nothing can be written. Bring these back:{}\n\n\
             `terraform apply` starts members that were stopped. If servers are gone for good, see the guide on disaster recovery.",
            lines(&down)
        );
        let summary = format!("The cluster {} has no quorum", cluster.name);
        Some(Diagnostic::warning(summary, detail).at(Path::of("cluster")))
    }

    /// A warning for the alarms that are raised. Once for a cluster and run.
    async fn alarms(&self, api: &Api) -> Option<Diagnostic> {
        let cluster = &self.whole.member.cluster;
        let (alarms, members) = tokio::join!(api.alarms(QUESTION), api.members(QUESTION));
        let alarms = alarms.ok().filter(|alarms| !alarms.is_empty())?;
        if !self.road.session(cluster.token()).says_first("alarms") {
            return None;
        }
        let names: BTreeMap<u64, String> = self.talk.names_of(&members.unwrap_or_default());
        let raised: Vec<String> = alarms
            .iter()
            .map(|(id, alarm)| {
                let who = names
                    .get(id)
                    .cloned()
                    .unwrap_or_else(|| format!("the member with the ID {id:x}"));
                format!("\n  {who}: {alarm}")
            })
            .collect();
        let detail = format!(
            "etcd has raised:{}\n\nWith NOSPACE the cluster refuses writes: see the guide on a full database. With CORRUPT the data of members \
             differ: see the guide on troubleshooting.",
            raised.concat()
        );
        let summary = format!("The cluster {} has an alarm", cluster.name);
        Some(Diagnostic::warning(summary, detail).at(Path::of("cluster")))
    }

    /// A warning if the member's process ends again and again.
    pub async fn of_loop(&self, host: &Host, seen: &Seen) -> Option<Diagnostic> {
        let server = &self.whole.member.server;
        if !seen.ends_again || self.answers(server).await {
            return None;
        }
        let found = log::read(host, &self.whole.layout).await;
        let advice = match found.damage {
            Some(damage) => format!("\n{}", self.replacing(damage).await),
            None => String::new(),
        };
        let detail = format!(
            "systemd starts it again and again. The last lines of its log:\n{}{advice}",
            found.lines
        );
        let summary = format!("The member on server {server} ends again and again");
        Some(Diagnostic::warning(summary, detail).at(Path::of("server")))
    }

    async fn answers(&self, server: &str) -> bool {
        match self.talk.to(server, QUESTION).await {
            Ok(api) => api.status(QUESTION).await.is_ok_and(|status| status.has_leader()),
            Err(_) => false,
        }
    }

    async fn replacing(&self, damage: log::Damage) -> String {
        let cluster = &self.whole.member.cluster;
        let unit = self.whole.layout.unit_name();
        let down = who_is_down(Some(self.talk), self.road, cluster, &unit).await;
        let others = cluster.servers.len().saturating_sub(1);
        let down = down.iter().filter(|one| one.server != self.whole.member.server).count();
        log::advice(damage, &self.whole.member.server, others, others.saturating_sub(down))
    }
}
