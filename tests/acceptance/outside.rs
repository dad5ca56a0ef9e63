//! What can be seen from outside: the hosts' sockets, files and processes, and etcd through its own client.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use etcd_lab::Lab;
use serde_json::Value;
use terraform_provider_etcd::etcd::yaml;

/// What an election takes at most, on a busy machine too.
const ELECTION: Duration = Duration::from_secs(20);

/// The addresses to which the host has established connections on the peer port.
pub fn dialled(lab: &Lab, host: &str) -> Result<BTreeSet<IpAddr>> {
    peers(lab, host, "dport")
}

/// The addresses from which the host's peer port has established connections.
pub fn heard_from(lab: &Lab, host: &str) -> Result<BTreeSet<IpAddr>> {
    peers(lab, host, "sport")
}

/// The far ends of the established connections with a peer port of the cluster `main` at the near (`sport`) or far (`dport`) end.
fn peers(lab: &Lab, host: &str, side: &str) -> Result<BTreeSet<IpAddr>> {
    let script = format!(
        "ports=$(sed -n 's/^initial-cluster: //p' /etc/etcd/main/etcd.yaml 2>/dev/null | tr ',' '\\n' | sed -n 's/.*:\\([0-9]*\\)\"*$/\\1/p' | sort -u)
        any=; for port in ${{ports:-2380}}; do any=\"${{any:+$any or }}{side} = :$port\"; done; ss -Htn state established \"( $any )\""
    );
    let text = lab.exec(host, &script)?.ok()?;
    let addresses = text.lines().map(|line| {
        let peer = line.split_whitespace().nth(3).context("a line of ss without peer")?;
        let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
        let address: IpAddr = address
            .trim_matches(['[', ']'])
            .parse()
            .with_context(|| format!("the address in {line:?}"))?;
        Ok(address.to_canonical())
    });
    addresses.collect()
}

/// The configuration that stands on the host for the cluster `main`, as text and parsed.
pub fn etcd_configuration(lab: &Lab, host: &str) -> Result<(String, serde_json::Value)> {
    let text = lab.read_file(host, "/etc/etcd/main/etcd.yaml")?;
    let parsed = yaml::options(&text).with_context(|| format!("the configuration on {host}"))?;
    Ok((text, parsed.into()))
}

/// The words that make `etcdctl` a client of the etcd that runs on the host, over its loopback, with root's certificate where
/// it has one, or with that of the clients of a cluster which was made by other means. Debian's 3.4 speaks the old interface unless told otherwise.
/// How long it waits is no test's verdict: an election on a busy machine takes some seconds.
const ETCDCTL: &str = r#"etcdctl() {
  port=$(sed -n 's/^listen-client-urls: .*:\([0-9]*\)[^0-9]*$/\1/p' /etc/etcd/main/etcd.yaml 2>/dev/null)
  port=${port:-2379}
  set -- --dial-timeout=5s --command-timeout=15s "$@"
  if [ -e /etc/etcd/main/pki/operator.crt ]; then
    set -- --endpoints=https://127.0.0.1:$port --cacert=/etc/etcd/main/pki/client-ca.crt \
      --cert=/etc/etcd/main/pki/operator.crt --key=/etc/etcd/main/pki/operator.key "$@"
  elif [ -e /etc/plain-client/ca.crt ]; then
    set -- --endpoints=https://127.0.0.1:2379 --cacert=/etc/plain-client/ca.crt \
      --cert=/etc/plain-client/client.crt --key=/etc/plain-client/client.key "$@"
  else
    set -- --endpoints=http://127.0.0.1:$port "$@"
  fi
  program=$(readlink "/proc/$(pgrep -xo etcd)/exe")
  # Its file was replaced, and with that the place of its mount is gone.
  case $program in '/ (deleted)') program=$(tr '\0' '\n' <"/proc/$(pgrep -xo etcd)/cmdline" | head -n 1) ;; esac
  ETCDCTL_API=3 "$(dirname "$program")/etcdctl" "$@"
}
"#;

/// Runs `etcdctl` on the host as a client of the host's own member.
pub fn ctl(lab: &Lab, host: &str, arguments: &str) -> Result<String> {
    lab.exec(host, &format!("{ETCDCTL} etcdctl {arguments}"))?
        .ok()
        .with_context(|| format!("etcdctl {arguments} on {host}"))
}

/// Has the host's member write down in this file of the host's what becomes of a key, from now on.
pub fn watch(lab: &Lab, host: &str, key: &str, file: &str) -> Result<()> {
    let status: Value = serde_json::from_str(&ctl(lab, host, "endpoint status -w json")?)?;
    let now = status[0]["Status"]["header"]["revision"]
        .as_u64()
        .context("no revision")?;
    // From a revision on: whatever comes before the watch is there is seen too. A service of its own: what a command leaves running it would be
    // waited for.
    let script = format!(
        "cat >{file}.sh <<'WATCH'\n{ETCDCTL}etcdctl watch {key} --rev={} >{file} 2>&1\nWATCH\n\
         touch {file}; systemd-run --quiet sh {file}.sh",
        now + 1
    );
    lab.exec(host, &script)?.ok().map(drop)
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster's ID.
    pub cluster_id: u64,
    /// The member's ID.
    pub member_id: u64,
    /// The ID of the member that it takes for the leader.
    pub leader: u64,
    /// The version that runs.
    pub version: String,
}

/// What the host's member says of itself.
pub fn status(lab: &Lab, host: &str) -> Result<Status> {
    let text = ctl(lab, host, "endpoint status -w json")?;
    let value: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let status = &value[0]["Status"];
    let number = |value: &Value| value.as_u64().context("no number");
    Ok(Status {
        cluster_id: number(&status["header"]["cluster_id"])?,
        member_id: number(&status["header"]["member_id"])?,
        leader: number(&status["leader"])?,
        version: status["version"].as_str().unwrap_or_default().to_owned(),
    })
}

/// Checks that all these hosts run members of one cluster, that they agree on a leader, and that what is written at each is
/// read at every other. Returns the cluster's ID.
pub fn one_cluster(lab: &Lab, hosts: &[&str]) -> Result<u64> {
    agree(lab, hosts).with_context(|| journals(lab, hosts))
}

/// What etcd said last on each host, and who is connected to whom.
pub fn journals(lab: &Lab, hosts: &[&str]) -> String {
    hosts.iter().fold(String::new(), |text, host| {
        let look = "journalctl -u etcd-main -o cat --no-pager -n 8 | cut -c1-300; ss -Htno '( sport = :2380 or dport = :2380 )'";
        let seen = lab.exec(host, look);
        text + "--- " + host + "\n" + &seen.map(|output| output.stdout).unwrap_or_default()
    })
}

/// What each member says of itself, when all of them follow one leader: another election may be under way on a busy machine. What they say last
/// where they don't agree.
fn statuses(lab: &Lab, hosts: &[&str]) -> Result<Vec<Status>> {
    let begun = Instant::now();
    loop {
        let all: Vec<Status> = hosts.iter().map(|host| status(lab, host)).collect::<Result<_>>()?;
        let leaders: BTreeSet<u64> = all.iter().map(|status| status.leader).collect();
        if leaders.len() == 1 && !leaders.contains(&0) || begun.elapsed() > ELECTION {
            return Ok(all);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn agree(lab: &Lab, hosts: &[&str]) -> Result<u64> {
    let all = statuses(lab, hosts)?;
    let first = all.first().context("no hosts")?;
    for (host, status) in hosts.iter().zip(&all) {
        ensure!(
            status.cluster_id == first.cluster_id,
            "{host} is in another cluster: {all:?}"
        );
        ensure!(
            status.leader == first.leader && status.leader != 0,
            "{host} follows another leader: {all:?}"
        );
    }
    let ids: BTreeSet<u64> = all.iter().map(|status| status.member_id).collect();
    ensure!(ids.len() == hosts.len(), "two hosts are the same member: {all:?}");
    // Under a name of its own each time: what was there before proves nothing.
    let seen = format!("seen/{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
    for writer in hosts {
        // etcd does not repeat what a member passed on to the leader over a connection that ended in this moment: clients do.
        eventually("a write is acknowledged", || {
            ctl(lab, writer, &format!("put {seen}/{writer} {writer}")).map(|_| true)
        })?;
    }
    for reader in hosts {
        let read = ctl(lab, reader, &format!("get --prefix --print-value-only {seen}/"))?;
        let read: BTreeSet<&str> = read.lines().collect();
        ensure!(
            read == hosts.iter().copied().collect(),
            "{reader} reads what these wrote, and not all did: {read:?}"
        );
    }
    Ok(first.cluster_id)
}

/// A member as the member list has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name; empty as long as it has not started.
    pub name: String,
    /// Its ID.
    pub id: u64,
    /// Whether it has no vote.
    pub learner: bool,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
}

/// The member list, as the host's member gives it.
pub fn member_list(lab: &Lab, host: &str) -> Result<Vec<Listed>> {
    let text = ctl(lab, host, "member list -w json")?;
    let value: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let members = value["members"].as_array().context("no members")?;
    let listed = members.iter().map(|member| {
        let urls = member["peerURLs"].as_array().cloned().unwrap_or_default();
        Ok(Listed {
            name: member["name"].as_str().unwrap_or_default().to_owned(),
            id: member["ID"].as_u64().context("no ID")?,
            learner: member["isLearner"].as_bool().unwrap_or(false),
            peer_urls: urls.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        })
    });
    listed.collect()
}

/// The names of servers in the cluster's block of the host's `/etc/hosts`.
pub fn hosts_block(lab: &Lab, host: &str) -> Result<BTreeSet<String>> {
    let text = lab.read_file(host, "/etc/hosts")?;
    let names = text.lines().filter_map(|line| {
        let name = line.split_whitespace().nth(1)?;
        Some(name.strip_suffix(".main.etcd.internal")?.to_owned())
    });
    Ok(names.collect())
}

/// The host on which the leader runs.
pub fn leader<'a>(lab: &Lab, hosts: &[&'a str]) -> Result<&'a str> {
    let found = hosts
        .iter()
        .find(|host| status(lab, host).is_ok_and(|status| status.leader == status.member_id));
    found.copied().context("none of the hosts runs a leader")
}

/// Asks `question` until it answers true. How long that may take is no test's verdict: it ends a test that would never end, on the busiest machine.
pub fn eventually(what: &str, question: impl FnMut() -> Result<bool>) -> Result<()> {
    within(what, Duration::from_secs(300), question)
}

/// The same where it matters how long it takes; an error after `patience`.
pub fn within(what: &str, patience: Duration, mut question: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    let mut last = Ok(false);
    while start.elapsed() < patience {
        last = question();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let why = last.err().map_or_else(String::new, |error| format!(": {error:#}"));
    anyhow::bail!("{what}: not within {patience:?}{why}")
}

/// What a destroy must not leave: units, users, a block in the hosts file, configuration, listening ports, processes. Nothing
/// is an empty text.
pub fn leftovers(lab: &Lab, host: &str) -> Result<String> {
    let script = "systemctl --no-legend list-unit-files 'etcd*'; systemctl --no-legend --all list-units 'etcd*'
        ls -d /etc/systemd/system/*/etcd* /etc/systemd/system/etcd* 2>/dev/null; getent passwd | grep ^etcd; getent group | grep ^etcd
        grep -v '^127' /etc/hosts; find /etc/etcd -type f 2>/dev/null; ss -Hltn 'sport = :2379 or sport = :2380'; pgrep -a etcd";
    lab.exec(host, script).map(|output| output.stdout)
}
