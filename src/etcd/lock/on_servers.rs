//! The lock as a file on the servers of the voters, for as long as etcd takes no key: while an alarm is raised. Whoever has it on
//! most of them has it; all count the same servers, since they are those of the member list. On each it ends by itself.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::{OUTLIVES, QUESTION};
use crate::host::{Host, PRIVILEGE, Script};

/// The servers of a cluster's voters.
#[derive(Clone, Debug)]
pub struct Servers {
    /// Those that are reached.
    pub hosts: Vec<Host>,
    /// How many voters the member list has.
    pub voters: usize,
    /// The cluster's name.
    pub cluster: String,
}

/// Who holds it there.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    /// A word that nobody else has.
    pub word: String,
    /// In words.
    pub who: String,
}

impl Holder {
    pub(super) fn new(who: &str) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self {
            word: data_encoding::HEXLOWER.encode(&bytes),
            who: who.replace(['\n', '\r'], " "),
        })
    }
}

impl Servers {
    /// Takes it, or keeps it. `Err`: who has it, where somebody else does, since too few servers gave it.
    pub(super) async fn hold(&self, holder: &Holder) -> Result<(), Option<String>> {
        let answers = self.ask(holder, OUTLIVES).await;
        let held = answers.iter().filter(|answer| answer.is_ok()).count();
        if held > self.voters / 2 {
            return Ok(());
        }
        Err(answers.into_iter().find_map(Result::err))
    }

    pub(super) async fn give_back(&self, holder: &Holder) {
        self.ask(holder, Duration::ZERO).await;
    }

    /// What each server says that says something in time: others may be busy with what the lock is for.
    async fn ask(&self, holder: &Holder, hold: Duration) -> Vec<Result<(), String>> {
        let script = Script::new("holding the cluster's lock")
            .set("cluster", &self.cluster)
            .set("holder", &holder.word)
            .set("who", &holder.who)
            .set("seconds", hold.as_secs().to_string())
            .line(PRIVILEGE)
            .line(include_str!("hold.sh"));
        let asked = self.hosts.iter().map(|host| {
            let script = script.clone();
            async move {
                let output = timeout(QUESTION, host.run_checked(&script)).await.ok()?.ok()?;
                match (output.value("held"), output.value("held_by")) {
                    (Some(_), _) => Some(Ok(())),
                    (None, Some(who)) => Some(Err(who.to_owned())),
                    (None, None) => None,
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}
