//! What a refresh sees of a member, as its state.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::complaints::{Complaints, Settled};
use super::kept::Word;
use super::observe::{self, Look, Seen};
use super::state::{as_map, rfc3339};
use super::{ANSWER, MemberResource, READ, Whole, binary, copied, drift, revoked, survey, wanted, whole};
use crate::etcd::api::{Api, Member, Status};
use crate::etcd::certificates::parse;
use crate::host::Host;
use crate::membership::damage::copied;
use crate::membership::incarnation::is_superseded;
use crate::membership::member::{Data, Service};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::value::Value;
use crate::resource::blind::{self, Unseen};
use crate::resource::objects;
use crate::resource::talk::Talk;

/// The certificates of a member that have ended: what they are for, and when that was.
fn ended(seen: &Seen) -> BTreeMap<&'static str, OffsetDateTime> {
    let purposes = [
        ("peer", "peers that dial it"),
        ("peer-client", "peers that it dials"),
        ("server", "clients"),
    ];
    let ends = purposes.into_iter().filter_map(|(file, purpose)| {
        let end = parse(seen.certificates.get(file)?).ok()?.not_after;
        Some((purpose, end))
    });
    ends.filter(|(_, end)| *end <= OffsetDateTime::now_utc()).collect()
}

impl MemberResource {
    pub(super) async fn refresh(&self, mut state: Value, private: &[u8]) -> (Value, Diagnostics) {
        let whole = match whole(&state) {
            Ok(whole) => whole,
            Err(diagnostics) => return (state, diagnostics),
        };
        let server = &whole.member.server;
        let unknown = |error: &dyn std::fmt::Display| {
            Diagnostic::warning(
                format!("Member {server} could not be observed"),
                format!("Its state is taken to be as it was. {error}"),
            )
        };
        let Some(model) = whole.member.server() else {
            return (state, Diagnostics::new());
        };
        let host = match self.road.connect(model, READ, false).await {
            Ok(host) => host,
            Err(error) => {
                if Word::Unreached.is_in(private) {
                    // Nothing else would make the next plan show that changes are still to be made there.
                    let missing = (drift::SERVER.to_owned(), drift::UNREACHED.to_owned());
                    state.set("drift", as_map(BTreeMap::from([missing])));
                }
                let cluster = &whole.member.cluster;
                if let Some(blind) = blind::refuse_alone(&self.road, &cluster.name, &cluster.servers, READ).await {
                    return (state, blind.into());
                }
                let unseen = Unseen {
                    road: &self.road,
                    name: server,
                    server: Some(model),
                    what: "The state of its member is taken to be as it was.".to_owned(),
                };
                return (state, unseen.explain(&error));
            }
        };
        let binary = binary::path(&whole.member, &whole.version);
        let files = wanted::compared_files(&whole.layout);
        let look = Look {
            binary: &binary,
            files: &files,
            key: true,
            ..Look::default()
        };
        let seen = observe::observe(&host, &whole.member, &whole.layout, look).await;
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return (state, unknown(&error).into()),
        };
        if seen.is_nothing() {
            return (Value::Null, Diagnostics::new());
        }
        let other = is_superseded(objects::kept(private).as_ref(), seen.object.as_ref());
        let (mut state, diagnostics) = self.seen_state(state, &whole, &host, seen).await;
        if other {
            drift::note_other_object(&mut state);
        }
        (state, diagnostics)
    }

    /// What is wrong with the member's peer URL in the member list.
    fn listed_elsewhere(whole: &Whole, members: &[Member], id: u64) -> Option<(String, String)> {
        let (name, _) = whole.topology.find(&whole.member.server).ok()?;
        let wanted = whole.topology.peer_url(name).ok()?;
        let own = members.iter().find(|one| one.id == id)?;
        drift::of_peer_url(&own.peer_urls, &wanted)
    }

    async fn seen_state(&self, mut state: Value, whole: &Whole, host: &Host, mut seen: Seen) -> (Value, Diagnostics) {
        state.set("configuration", seen.configuration.clone());
        state.set("tcp_retries2", seen.tcp_retries2);
        state.set(
            "service",
            match seen.service {
                _ if seen.token.is_none() && seen.former_runs() => "running",
                Service::Running => "running",
                Service::Stopped => "stopped",
                Service::Failed => "failed",
            },
        );
        if whole.member.cluster.tls_enabled() {
            let end = |file: &str| {
                seen.certificates
                    .get(file)
                    .and_then(|pem| parse(pem).ok())
                    .map(|info| rfc3339(info.not_after))
            };
            let expiry = [("peer", "peer"), ("peer_client", "peer-client"), ("client", "server")]
                .map(|(kind, file)| (kind, Value::from(end(file))));
            state.set("certificate_expiry", Value::object(expiry));
            state.set("certificate_serials", revoked::serials(&seen.certificates));
        }
        let ended = ended(&seen);
        // What is there is compared with at the next refresh; a state of an older provider has nothing to compare with.
        if state.get("binary_sha256").is_null() {
            state.set("binary_sha256", seen.binary_sum.clone());
        }
        // What a stopped member goes on from.
        if let Some(last) = &seen.last {
            state.set("running_version", last.as_str());
        }
        let drift = drift::drift(whole, &seen);
        state.set("drift", as_map(drift.clone()));
        let talk = Talk::borrow(&self.road, &whole.member.cluster, &whole.topology, seen.lent.take());
        let Some(talk) = talk else {
            return (state, Diagnostics::new());
        };
        let looked = Complaints {
            road: &self.road,
            whole,
            talk: &talk,
        };
        let mut diagnostics: Diagnostics = looked.of_loop(host, &seen).await.into_iter().collect();
        if !diagnostics.is_empty() {
            state.set("service", "restarting");
            return (state, diagnostics);
        }
        diagnostics.append(looked.of_ended(&ended).into_iter().collect());
        if seen.service != Service::Running {
            if seen.data == Data::Member {
                let survey = survey::survey(&talk, &whole.member, &whole.topology).await;
                // A member that was taken out of the cluster ends by itself, and can't come back with its data.
                if survey.as_ref().is_some_and(|survey| survey.list.own.is_none()) {
                    let left = (drift::MEMBER_LIST.to_owned(), drift::REMOVED.to_owned());
                    state.set("drift", as_map(drift.into_iter().chain([left]).collect()));
                }
                if let Some(damage) = copied::of_data(&whole.member, &whole.topology, &seen, survey.as_ref()) {
                    drift::note_damage(&mut state, &damage);
                    diagnostics.push(looked.of_damage(&damage).await);
                }
            }
            diagnostics.append(looked.of_stopped().await);
            return (state, diagnostics);
        }
        let answered = async {
            let api = talk.to(&whole.member.server, ANSWER).await.ok()?;
            let status = api.status(ANSWER).await.ok()?;
            Some(Settled::Answers(Box::new((api, status))))
        };
        let settled = match answered.await {
            Some(answers) => answers,
            None => looked.settles(host, &seen).await,
        };
        match settled {
            Settled::Ended => {
                state.set("service", "restarting");
                diagnostics.push(looked.of_end(host).await);
            }
            // It may well be part of a quorum: a client that checks its certificate can't tell.
            Settled::Silent if !ended.is_empty() => {}
            Settled::Silent => {
                let (service, said) = looked.of_silent(host).await;
                if let Some(service) = service {
                    state.set("service", service);
                }
                diagnostics.append(said);
            }
            Settled::Answers(answers) => {
                let (api, status) = *answers;
                let said = Self::of_answer(&mut state, whole, &looked, &api, status).await;
                diagnostics.append(said);
            }
        }
        (state, diagnostics)
    }

    /// What a member that answers says of itself.
    async fn of_answer(
        state: &mut Value,
        whole: &Whole,
        looked: &Complaints<'_>,
        api: &Api,
        status: Status,
    ) -> Diagnostics {
        let mut diagnostics = looked.of_status(api, &status).await;
        state.set("running_version", status.version);
        if status.is_learner {
            // An apply that was cut off left it so; the next one makes a voter of it.
            state.set("service", "learner");
        }
        state.set("cluster_id", format!("{:x}", status.cluster_id));
        let members = match drift::is_to_be_adopted(state) {
            true => Vec::new(),
            false => api.members(ANSWER).await.unwrap_or_default(),
        };
        if let Some(damage) = copied(&whole.member.server, status.member_id, &looked.talk.names_of(&members)) {
            drift::note_damage(state, &damage);
            diagnostics.push(looked.of_damage(&damage).await);
            return diagnostics;
        }
        state.set("member_id", format!("{:x}", status.member_id));
        if let Some((part, what)) = Self::listed_elsewhere(whole, &members, status.member_id) {
            let mut drift = state.get("drift").as_map().cloned().unwrap_or_default();
            drift.insert(part, what.into());
            state.set("drift", drift);
        }
        diagnostics
    }
}
