//! What a refresh says of a member and its cluster beside the attributes: no quorum, alarms, a process that ends again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::Whole;
use super::down::{Down, lines, who_is_down};
use super::log;
use super::observe::{Process, Seen};
use super::state::rfc3339;
use super::talk::Talk;
use crate::etcd::api::{Api, Status};
use crate::host::{Host, Script};
use crate::membership::damage::Damage;
use crate::membership::quorum;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::road::Road;

const QUESTION: Duration = Duration::from_secs(5);
/// How long a process that was started a moment ago may take to answer, or to end.
const STARTING: Duration = Duration::from_secs(5);
/// What the service of a member is that runs and does not answer, though the others have a quorum.
const SILENT: &str = "silent";

/// What became of a process that did not answer at first.
pub enum Settled {
    /// It answers.
    Answers(Box<(Api, Status)>),
    /// It has ended, and systemd starts another one.
    Ended,
    /// It does not answer.
    Silent,
}

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
    /// A warning if certificates of the member have ended. Once for a cluster and run.
    pub fn of_ended(&self, ended: &BTreeMap<&'static str, OffsetDateTime>) -> Option<Diagnostic> {
        let cluster = &self.whole.member.cluster;
        if ended.is_empty() || !self.road.session(cluster.token()).says_first("expired") {
            return None;
        }
        let lines =
            { ended.iter() }.map(|(purpose, end)| format!("\n  its certificate for {purpose}: {}", rfc3339(*end)));
        let detail = format!(
            "The member on server {} has such, and others of the cluster may have too:{}\n\nNew connections are refused until they are \
             renewed, also those of this provider. `terraform apply` renews them first, which needs no restart, and then makes all other changes.",
            self.whole.member.server,
            lines.collect::<String>()
        );
        let summary = format!("Certificates of the cluster {} have expired", cluster.name);
        Some(Diagnostic::warning(summary, detail).at(Path::of("cluster")))
    }

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

    /// Of a member that runs and does not answer: what its service is then, if that is more than its cluster's lack of a quorum.
    pub async fn of_silent(&self, host: &Host) -> (Option<&'static str>, Diagnostics) {
        let down = self.down().await;
        let servers = self.whole.member.cluster.servers.len();
        if servers.saturating_sub(down.len()) < quorum(servers) {
            return (None, self.lack(&down).into_iter().collect());
        }
        let server = &self.whole.member.server;
        let found = log::read(host, &self.whole.layout).await;
        let detail = format!(
            "The others have a quorum without it. `terraform apply` waits for it and says more. The last lines of its log:\n{}",
            found.lines
        );
        let summary = format!("The member on server {server} runs and does not answer");
        let warning = Diagnostic::warning(summary, detail).at(Path::of("server"));
        (Some(SILENT), warning.into())
    }

    /// Waits for the answer of a process that was started a moment ago. One that ends meanwhile is met in the middle of ending again and again.
    pub async fn settles(&self, host: &Host, seen: &Seen) -> Settled {
        let server = &self.whole.member.server;
        let until = Instant::now() + STARTING;
        loop {
            if let Ok(api) = self.talk.to(server, QUESTION).await
                && let Ok(status) = api.status(QUESTION).await
            {
                return Settled::Answers(Box::new((api, status)));
            }
            let script = Script::new("looking whether the member's process is the same still")
                .timeout(QUESTION)
                .set("unit", self.whole.layout.unit_name())
                .line("systemctl show -p MainPID -p NRestarts \"$unit\" 2>/dev/null | tell_pairs unit.");
            if let Ok(output) = host.run_checked(&script).await
                && Process::of(&output) != seen.process
            {
                return Settled::Ended;
            }
            if !seen.young || Instant::now() >= until || self.road.pause(Duration::from_millis(300)).await.is_err() {
                return Settled::Silent;
            }
        }
    }

    async fn down(&self) -> Vec<Down> {
        let unit = self.whole.layout.unit_name();
        who_is_down(Some(self.talk), self.road, &self.whole.member.cluster, &unit).await
    }

    async fn quorum(&self) -> Option<Diagnostic> {
        self.lack(&self.down().await)
    }

    /// A warning if too few members take part in the cluster. Once for a cluster and run.
    fn lack(&self, down: &[Down]) -> Option<Diagnostic> {
        let cluster = &self.whole.member.cluster;
        let (servers, needed) = (cluster.servers.len(), quorum(cluster.servers.len()));
        let well = servers.saturating_sub(down.len());
        if well >= needed || !self.road.session(cluster.token()).says_first("quorum") {
            return None;
        }
        let detail = format!(
            "{well} of its {servers} members take part in it, and {needed} have to agree: nothing can be written. Bring these back:{}\n\n\
             `terraform apply` starts members that were stopped. If servers are gone for good, see the guide on disaster recovery.",
            lines(down)
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
        Some(self.of_end(host).await)
    }

    /// Of a member whose process has ended, or ends again and again.
    pub async fn of_end(&self, host: &Host) -> Diagnostic {
        let server = &self.whole.member.server;
        let found = log::read(host, &self.whole.layout).await;
        let advice = match found.damage {
            Some(damage) => format!("\n{}", self.replacing(&damage).await),
            None => String::new(),
        };
        let detail = format!(
            "systemd starts it again and again. The last lines of its log:\n{}{advice}",
            found.lines
        );
        let summary = format!("The member on server {server} ends again and again");
        Diagnostic::warning(summary, detail).at(Path::of("server"))
    }

    /// A warning if the member's data is wrong, with what to do.
    pub async fn of_damage(&self, damage: &Damage) -> Diagnostic {
        let server = &self.whole.member.server;
        let summary = format!("The member on server {server} is not itself");
        Diagnostic::warning(summary, self.replacing(damage).await).at(Path::of("server"))
    }

    async fn answers(&self, server: &str) -> bool {
        match self.talk.to(server, QUESTION).await {
            Ok(api) => api.status(QUESTION).await.is_ok_and(|status| status.has_leader()),
            Err(_) => false,
        }
    }

    async fn replacing(&self, damage: &Damage) -> String {
        let others = self.whole.member.cluster.servers.len().saturating_sub(1);
        let down = self.down().await;
        let down = down.iter().filter(|one| one.server != self.whole.member.server).count();
        damage.advice(&self.whole.member.server, others, others.saturating_sub(down))
    }
}
