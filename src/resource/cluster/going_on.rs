//! How the survivor of a cluster that lost its quorum becomes a cluster of its own: it reads its log to the end, its data is made anew, and it
//! starts and leads.

use std::time::Duration;

use tokio::time::Instant;

use super::model::ClusterModel;
use super::recovering::{QUESTION, Recovering, at};
use super::servers::{root_file, stamp};
use crate::etcd::api::{ApiTarget, Pages};
use crate::etcd::metrics::Metrics;
use crate::etcd::{program, restoring};
use crate::host::{Host, Output, PRIVILEGE, Script};
use crate::membership::recovery::{Log, Wanted};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::resource::borrowing::borrow;
use crate::resource::ports;
use crate::resource::talk::TalkError;

/// How long the survivor may take to read its log, and how long until its data is made anew: it is read and written once.
const REMAKE: Duration = Duration::from_secs(1800);
/// How long it may take until it leads itself.
const LEADS: Duration = Duration::from_secs(60);
/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Has the survivor go on. Safe to repeat.
pub async fn go_on(recovering: &Recovering<'_>, wanted: &Wanted) -> Diagnostics {
    let name = &wanted.survivor;
    match remake(recovering, wanted).await {
        Ok(()) => Diagnostics::new(),
        Err(why) => {
            let text = format!("{why}. Its data was not deleted, and the next apply goes on from here.");
            let summary = format!(
                "The cluster {} does not go on from server {name} yet",
                recovering.before.name
            );
            Diagnostic::error(summary, text).at(at().attribute("survivor")).into()
        }
    }
}

async fn remake(recovering: &Recovering<'_>, wanted: &Wanted) -> Result<(), String> {
    let (cluster, name) = (recovering.before, &wanted.survivor);
    let model = cluster.server(name).map_err(|error| error.to_string())?;
    let (server, _) = recovering.topology.find(name).map_err(|error| error.to_string())?;
    let url = recovering
        .topology
        .peer_url(server)
        .map_err(|error| error.to_string())?;
    let host = recovering
        .road
        .connect(model, recovering.within, false)
        .await
        .map_err(|error| error.to_string())?;
    let script = survivors("having the survivor's member read its log", cluster, wanted)
        .line(ports::SCRIPT)
        .line(include_str!("catch_up.sh"));
    let output = host.run_checked(&script).await.map_err(|error| error.to_string())?;
    caught_up(recovering, &host, name, &output).await?;
    let token = root_file(format!("/etc/etcd/{}/token", cluster.name), &wanted.after);
    let script = survivors(
        "making the survivor's data that of a cluster of its own",
        cluster,
        wanted,
    )
    .set("stamp", stamp())
    .set("process", output.value("process").unwrap_or_default())
    .set("name", name)
    .set("initial_cluster", format!("{name}={url}"))
    .set("peer_url", url)
    .set("bump", "")
    .line(include_str!("remake.sh"))
    .write_file(&token)
    .line(include_str!("go_on.sh"));
    host.run_checked(&script).await.map_err(|error| error.to_string())?;
    leads(recovering, name).await
}

fn survivors(title: &str, cluster: &ClusterModel, wanted: &Wanted) -> Script {
    Script::new(title)
        .timeout(REMAKE)
        .set("cluster", &cluster.name)
        .set("token", &wanted.after)
        .line(PRIVILEGE)
        .line(program::SCRIPT)
        .line(restoring::script())
        .line(include_str!("survivor.sh"))
}

/// Waits until the member has everything in its database that its log says is committed.
async fn caught_up(recovering: &Recovering<'_>, host: &Host, name: &str, output: &Output) -> Result<(), String> {
    let number = |key: &str| output.value(key).and_then(|text| text.parse::<u64>().ok());
    let (Some(committed), Some(from), Some(port)) = (number("committed"), number("from"), number("port")) else {
        // Its data was made by an earlier run.
        return Ok(());
    };
    let mut log = Log {
        committed,
        from,
        applied: 0,
    };
    let target = ApiTarget {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        port: u16::try_from(port).map_err(|error| error.to_string())?,
        elsewhere: None,
        tls: None,
        server_name: name.to_owned(),
        other_addresses: Vec::new(),
    };
    let pages = Pages::new(host, &target).map_err(|error| error.to_string())?;
    let began = Instant::now();
    let mut heard = began;
    while !log.is_read() {
        match pages.get("/metrics", QUESTION).await {
            Ok(text) => {
                log.applied = Metrics::parse(&text).applied;
                heard = Instant::now();
            }
            // It may look whether its data is whole before it listens.
            Err(error) if heard.elapsed() > LEADS => {
                return Err(format!(
                    "its member was started to read its log, and does not answer: {error}"
                ));
            }
            Err(_) => {}
        }
        if began.elapsed() > REMAKE {
            return Err(format!("its member reads its log still: {log}"));
        }
        if !log.is_read() {
            recovering.road.pause(PAUSE).await.map_err(|error| error.to_string())?;
        }
    }
    tracing::debug!(%log, "the survivor has read its log");
    Ok(())
}

/// Waits until the survivor leads the cluster that it is.
async fn leads(recovering: &Recovering<'_>, name: &str) -> Result<(), String> {
    let deadline = Instant::now() + LEADS;
    let talk = borrow(recovering.road, recovering.before, recovering.topology, QUESTION * 2).await?;
    loop {
        let asked = async {
            talk.to(name, QUESTION)
                .await?
                .status(QUESTION)
                .await
                .map_err(Into::into)
        };
        let answer: Result<_, TalkError> = asked.await;
        let last = match answer {
            Ok(status) if status.is_leader() => return Ok(()),
            Ok(_) => "it does not lead yet".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(format!(
                "its member was started with its data, and did not come to lead itself: {last}"
            ));
        }
        recovering.road.pause(PAUSE).await.map_err(|error| error.to_string())?;
    }
}
