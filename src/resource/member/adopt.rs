//! A member is taken over from the service that ran it before: stopped there, started here with the same data, and then known to the
//! cluster by its name instead of by addresses. One at a time, and never on the way to less than a quorum.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bring_up::{BringUp, Course};
use super::errors::BringUpError;
use super::install::Plan;
use super::membership_changes::{HOSTS_AGE, RESOLVER, hosts_age};
use super::observe::{self, Look, Seen};
use super::survey::{QUESTION, Survey};
use super::wanted;
use crate::etcd::api::Member;
use crate::etcd::former::Endpoint;
use crate::host::{Host, PRIVILEGE, Script};
use crate::membership::member::{Adoption, Refusal, Service};
use crate::resource::cluster::servers::{StepError, on_each, root_file};
use crate::resource::dialling::{self, Target};
use crate::resource::former;
use crate::topology::Dialled;

/// What is being done where its name becomes its peer URL.
const RENAMING: &str = "making its name its peer URL";
/// How long the other servers may take to dial the member by its name.
const DIALLING: u64 = 5;

impl BringUp<'_> {
    /// How far the adoption of this member has come; `None` for a member of this provider's own, and for one that was taken over.
    pub(super) fn adoption(&self, seen: &Seen) -> Option<Adoption> {
        self.member.cluster.adopted_from.as_ref()?;
        if seen.adopting {
            return Some(match seen.service {
                Service::Running => Adoption::Renaming,
                _ if seen.former_runs() => Adoption::Runs,
                _ => Adoption::Begun,
            });
        }
        if seen.token.is_some() {
            return None;
        }
        // A server that is new to the cluster may have a service of that name, which is nobody's member.
        if !self.existed {
            return (seen.former_runs() && seen.port_taken.is_some()).then_some(Adoption::NotImported);
        }
        seen.former
            .map(|former| if former.runs { Adoption::Runs } else { Adoption::Stopped })
    }

    /// Brings the files into place, stops the former service, and starts the member's own with the same data, in one script.
    pub(super) async fn adopt(&self, host: &Host, survey: Option<Survey>, seen: &Seen) -> Result<Seen, BringUpError> {
        let service = self.member.cluster.adopted_from.clone().unwrap_or_default();
        let mut script = Script::new("taking the member over from its former service")
            .timeout(self.remaining().min(Duration::from_secs(90)))
            .set("user", self.layout.user())
            .set("directory", self.layout.etc_dir().as_str())
            .set("pki", self.layout.pki_dir().as_str())
            .set("data", self.layout.data_dir().as_str())
            .set("unit", self.layout.unit_name())
            .set("former", &service)
            .set("note", self.layout.adopted_from().as_str())
            .set("adopting", self.layout.adopting().as_str())
            .line(PRIVILEGE)
            .line(include_str!("prepare.sh"));
        // Where it has begun, all files are there, and nobody may be left to ask.
        if self.adoption(seen) != Some(Adoption::Begun) {
            let survey = survey.ok_or_else(|| self.refused(Refusal::NoQuorum))?;
            let data = self.still_the_same(host, &survey, &service).await?;
            let plan = self.plan_for(seen, &former_hosts(&survey))?;
            script = self.asking_etcd(script, &plan, seen)?;
            script = self.with_files(script, &plan, &service, &data);
        }
        script = self
            .keeping_names(script.line(include_str!("adopt.sh")))
            .set("pending", self.layout.restart_pending().as_str())
            .set("verb", "start")
            .line(include_str!("start.sh"));
        let look = Look {
            files: &wanted::compared_files(self.layout),
            ..Look::default()
        };
        let script = observe::append(script, self.member, self.layout, look);
        let output = host.run_checked(&script).await?;
        self.accepted(&output)?;
        Ok(observe::seen(&output).after(seen))
    }

    fn with_files(&self, mut script: Script, plan: &Plan, service: &str, data: &str) -> Script {
        for file in &plan.files {
            script = file.put(script, self.layout);
        }
        let note = format!("service={service}\ndata={data}");
        let token = format!("{}/token", self.layout.etc_dir());
        script
            .write_file(&root_file(self.layout.adopted_from().to_string(), &note))
            // The mark before the token: with the token alone it would count as taken over.
            .write_file(&root_file(self.layout.adopting().to_string(), service))
            .write_file(&root_file(token, self.member.cluster.token()))
    }

    /// The data directory of what runs, if that is the member which was imported and can still be taken over.
    async fn still_the_same(&self, host: &Host, survey: &Survey, service: &str) -> Result<String, BringUpError> {
        let refuse = |why: String| BringUpError::Adoption {
            server: self.member.server.clone(),
            service: service.to_owned(),
            why,
        };
        if survey.list.own != self.member.id() {
            let id = |id: Option<u64>| id.map_or_else(|| "none".to_owned(), |id| format!("{id:x}"));
            return Err(refuse(format!(
                "the member that runs has the ID {}, and the one that was imported {}. Import it anew",
                id(survey.list.own),
                id(self.member.id())
            )));
        }
        let sight = former::look(host, &self.member.cluster.name, service).await?;
        let server = self.member.cluster.server(&self.member.server)?;
        let (_, version) = sight.member(service, server).map_err(|all| refuse(all.join("; ")))?;
        if version.minor() != self.version.minor() {
            return Err(refuse(format!(
                "it runs etcd {version}, and {} is wanted. Take it over as it is, and change its version in a later apply",
                self.version
            )));
        }
        let place = sight.data_dir(self.layout.cluster()).map_err(refuse)?;
        if place != self.layout.data_dir().as_str() {
            return Err(refuse(format!(
                "its data_dir was to be {}, and would be {place} now. Import it anew",
                self.layout.data_dir()
            )));
        }
        Ok(sight.data.unwrap_or_default())
    }

    /// Makes the member's name its peer URL, when every other server can dial it so, and sees that they do.
    pub(super) async fn rename(&self, host: &Host, course: &mut Course) -> Result<Seen, BringUpError> {
        self.look(host, course).await?;
        let Some(survey) = course.survey.take() else {
            return Err(self.refused(Refusal::NoQuorum));
        };
        let own = survey.members.iter().find(|one| Some(one.id) == survey.list.own);
        let Some(own) = own.cloned() else {
            return Err(self.refused(Refusal::Unlisted));
        };
        let url = self.own_peer_url()?;
        if own.peer_urls != [url.clone()] {
            self.dialled_by_name(&survey, &own).await?;
            self.update_urls(RENAMING, &survey, own.id, &[url]).await?;
            self.dialled_anew(&survey, &own).await;
            if let Err(error) = self.verify(host, course.scope.as_ref()).await {
                // As it was: what does not reach it by its name reaches it by its address.
                self.update_urls(RENAMING, &survey, own.id, &own.peer_urls).await.ok();
                return Err(error);
            }
        }
        let script = Script::new("noting that the member was taken over")
            .set("adopting", self.layout.adopting().as_str())
            .line("rm -f \"$adopting\"");
        host.run_checked(&script).await?;
        Ok(self.observe(host).await?)
    }

    fn refused(&self, refusal: Refusal) -> BringUpError {
        BringUpError::Refused {
            server: self.member.server.clone(),
            refusal,
            down: Vec::new(),
        }
    }

    /// Sees on every server with a member that the name is in its hosts file for as long as etcd may not look there again, and leads to
    /// the member.
    async fn dialled_by_name(&self, survey: &Survey, own: &Member) -> Result<(), BringUpError> {
        let refuse = |why: Vec<String>| BringUpError::Rename {
            server: self.member.server.clone(),
            url: own.peer_urls.join(","),
            why: why.join("; "),
        };
        let (name, _) = self.topology.find(&self.member.server)?;
        let stable = self.topology.domain().stable_name(name);
        let members: BTreeSet<&String> = survey.names.values().collect();
        let mut servers = self.member.cluster.servers.clone();
        servers.retain(|server, _| members.contains(server) && *server != self.member.server);
        let looked = on_each(self.road, &servers, QUESTION * 2, false, |server, host| {
            let place = self.topology.dials(server, &self.member.server).ok();
            let stable = &stable;
            async move {
                let targets = place.map(|place| Target {
                    name: server.to_owned(),
                    address: place.ip(),
                    port: place.port(),
                });
                let script = Script::new("dialling the member by its name")
                    .set("name", stable)
                    .line(HOSTS_AGE)
                    .line("getent ahosts \"$name\" | sed -n 's/^\\([^ ]*\\).*/\\1/p' | sort -u | tell_lines address");
                let script = dialling::append(script, targets.as_slice(), DIALLING, 1);
                let output = host.run_checked(&script).await?;
                let mut wrong = Vec::new();
                let wanted = targets.map(|target| target.address.to_string()).unwrap_or_default();
                let addresses: Vec<&str> = output.values("address").collect();
                if addresses != [wanted.as_str()] {
                    wrong.push(format!(
                        "on {server} the name {stable} stands for {addresses:?} instead of {wanted} (is /etc/hosts first in \
                         /etc/nsswitch.conf?)"
                    ));
                }
                for outcome in dialling::outcomes(&output, DIALLING).values() {
                    if !matches!(outcome, Dialled::Open(_)) {
                        wrong.push(format!("{server} can't dial it at {wanted} ({outcome:?})"));
                    }
                }
                Ok((wrong, hosts_age(&output)))
            }
        })
        .await;
        let (mut wrong, mut age) = (Vec::new(), RESOLVER);
        for (server, outcome) in looked {
            match outcome {
                Ok((said, since)) => {
                    wrong.extend(said);
                    age = age.min(since);
                }
                Err(StepError::Road(error)) => wrong.push(format!("{server} could not be asked ({error})")),
                Err(StepError::Run(error)) => wrong.push(format!("{server} could not be asked ({error})")),
            }
        }
        if !wrong.is_empty() {
            return Err(refuse(wrong));
        }
        let wait = RESOLVER.saturating_sub(age);
        let waited = self.road.pause(wait).await;
        waited.map_err(|_| BringUpError::Stopped { runs: true })
    }

    /// Closes the others' connections to the member, so that it shows at once whether they dial it by its name.
    async fn dialled_anew(&self, survey: &Survey, own: &Member) {
        let members: BTreeSet<&String> = survey.names.values().collect();
        let mut servers = self.member.cluster.servers.clone();
        servers.retain(|server, _| members.contains(server) && *server != self.member.server);
        let mut before = own.peer_urls.iter().filter_map(|url| Endpoint::parse(url));
        let before = before.find_map(|url| Some((url.address()?, url.port)));
        on_each(self.road, &servers, QUESTION, false, |server, host| {
            let place = self.topology.dials(server, &self.member.server).ok();
            let places = place.map(|place| (place.ip(), place.port())).into_iter().chain(before);
            let places: Vec<String> = places.map(|(address, port)| format!("{address} {port}")).collect();
            async move {
                let script = Script::new("closing connections to the member")
                    .set("places", places.join("\n"))
                    .line(include_str!("dial_anew.sh"));
                host.run_checked(&script).await.map(drop)
            }
        })
        .await;
    }
}

/// The hosts at which the members dial this one.
fn former_hosts(survey: &Survey) -> Vec<String> {
    let own = survey.members.iter().find(|one| Some(one.id) == survey.list.own);
    let urls = own.into_iter().flat_map(|own| &own.peer_urls);
    urls.filter_map(|url| Some(Endpoint::parse(url)?.host)).collect()
}
