//! Which members of a cluster take no part in it, and why, as far as that can be seen now.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::future::join_all;

use super::talk::{Talk, TalkError};
use crate::etcd::api::Api;
use crate::host::Script;
use crate::membership::damage::{Damage, copied};
use crate::resource::cluster::model::ClusterModel;
use crate::resource::road::{Road, RoadError};

const QUESTION: Duration = Duration::from_secs(5);

/// A member that takes no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Its server.
    pub server: String,
    /// Why.
    pub why: Why,
}

/// Why a member takes no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its server was not reached.
    Unreached(String),
    /// Its service does not run: what systemd calls its state.
    Service(String),
    /// It runs, and does not answer.
    Silent(String),
    /// It answers, and knows no leader.
    NoLeader,
    /// It answers as the member of another server, whose data it has.
    Copied(String),
}

impl Down {
    /// Whether a longer wait is of no use. What runs may be on its way, and so are the members of `coming`, which this run brings up.
    pub fn stays_down(&self, coming: &BTreeSet<String>) -> bool {
        match &self.why {
            Why::Unreached(_) | Why::Copied(_) => true,
            Why::Service(_) => !coming.contains(&self.server),
            Why::Silent(_) | Why::NoLeader => false,
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        match &self.why {
            Why::Unreached(error) => write!(f, "{server}: its server was not reached ({error})"),
            Why::Service(state) => write!(f, "{server}: its service is {state}"),
            Why::Silent(error) => write!(f, "{server}: its etcd does not answer ({error})"),
            Why::Copied(from) => write!(f, "{server}: it runs as the member of {from}, whose data it has"),
            Why::NoLeader => write!(f, "{server}: it runs, and knows no leader"),
        }
    }
}

/// All as lines of a message; nothing if none is down.
pub fn lines(all: &[Down]) -> String {
    all.iter().map(|one| format!("\n  {one}")).collect()
}

/// Whether a member takes part.
enum Part {
    /// It answers, and with this ID.
    Yes(String, Box<Api>, u64),
    /// It runs, and could not be asked.
    Runs,
    /// It does not.
    No(Down),
}

/// Asks every server of the cluster at once. Without a way to talk to etcd, the services alone are looked at.
pub async fn who_is_down(talk: Option<&Talk<'_>>, road: &Road, cluster: &ClusterModel, unit: &str) -> Vec<Down> {
    let asked = cluster.servers.iter().map(|(name, server)| async move {
        let down = |why| {
            Part::No(Down {
                server: name.clone(),
                why,
            })
        };
        let answered = match talk {
            Some(talk) => match talk.to(name, QUESTION).await {
                Ok(api) => {
                    let status = api.status(QUESTION).await.map_err(TalkError::Api);
                    Some(status.map(|status| (api, status)))
                }
                Err(error) => Some(Err(error)),
            },
            None => None,
        };
        let silent = match answered {
            Some(Ok((api, status))) if status.has_leader() => {
                return Part::Yes(name.clone(), Box::new(api), status.member_id);
            }
            Some(Ok(_)) => return down(Why::NoLeader),
            Some(Err(TalkError::Road(error @ RoadError::Connect(_)))) => {
                return down(Why::Unreached(error.to_string()));
            }
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        };
        let host = match road.connect(server, QUESTION, false).await {
            Ok(host) => host,
            Err(error) => return down(Why::Unreached(error.to_string())),
        };
        let script = Script::new("looking whether the member runs")
            .timeout(QUESTION)
            .set("unit", unit)
            .line("tell state \"$(systemctl show -p ActiveState --value \"$unit\" 2>/dev/null)\"");
        let state = host.run_checked(&script).await.ok();
        let state = state.and_then(|output| output.value("state").map(str::to_owned));
        match (state.as_deref(), silent) {
            (Some("active" | "reloading"), None) => Part::Runs,
            (Some("active" | "reloading"), Some(error)) => down(Why::Silent(error)),
            (Some(state), _) => down(Why::Service(state.to_owned())),
            (None, silent) => down(Why::Silent(silent.unwrap_or_default())),
        }
    });
    let (mut answers, mut down) = (Vec::new(), Vec::new());
    for part in join_all(asked).await {
        match part {
            Part::Yes(name, api, id) => answers.push((name, api, id)),
            Part::No(one) => down.push(one),
            Part::Runs => {}
        }
    }
    let members = match answers.first() {
        Some((_, api, _)) => api.members(QUESTION).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let names = talk.map(|talk| talk.names_of(&members)).unwrap_or_default();
    down.extend(answers.into_iter().filter_map(|(server, _, id)| {
        let Damage::Copied { from } = copied(&server, id, &names)? else {
            return None;
        };
        let why = Why::Copied(from);
        Some(Down { server, why })
    }));
    down.sort_by(|one, other| one.server.cmp(&other.server));
    down
}
