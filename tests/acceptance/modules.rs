//! The modules of the examples at work: ten clusters of five over three regions in one configuration, and a provider alias for each
//! region.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, HostSpec, Lab, Output, private_key_file};
use serde_json::Value;

use crate::configuration::quoted;
use crate::outside::{eventually, leftovers, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const ETCD: &str = "3.6.16";
const HOSTS: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];
const CLUSTERS: u16 = 10;
/// The region of the example that each site of the lab stands for.
const REGIONS: [(&str, &str); 3] = [("frankfurt", "A"), ("office", "B"), ("home", "C")];

fn cluster_name(number: u16) -> String {
    format!("c{number:02}")
}

fn peer_port(number: u16) -> u16 {
    24000 + number
}

fn client_port(number: u16) -> u16 {
    25000 + number
}

/// An example's folder as a module's source. It has to be a relative path: Terraform takes an absolute one for a package, in which
/// `../modules/region` would lead nowhere.
fn source(terraform: &Terraform<'_>, example: &str) -> Result<String> {
    let up: PathBuf = terraform
        .work()
        .canonicalize()?
        .components()
        .skip(1)
        .map(|_| "..")
        .collect();
    let example = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(example)
        .canonicalize()?;
    let below = example.strip_prefix("/").context("an absolute path")?;
    Ok(quoted(&up.join(below).display().to_string()))
}

/// The standard lab's hosts of this site, as the modules' `servers`.
fn servers(lab: &Lab, site: &str) -> Result<String> {
    let mut text = String::from("{\n");
    for host in HOSTS {
        if lab.spec().site_of(host)? == site {
            let private = lab.private_address(host)?;
            let public = lab.public_address(host)?.context("a host without public address")?;
            writeln!(
                text,
                "      {host} = {{ private_address = \"{private}\", public_address = \"{public}\" }}"
            )?;
        }
    }
    Ok(text + "    }")
}

/// The example `multi-region`, with the lab's servers in its regions. `configs` are the options of etcd of single clusters.
fn ten_clusters(lab: &Lab, terraform: &Terraform<'_>, configs: &BTreeMap<u16, &str>) -> Result<String> {
    let mut text = format!(
        "module \"ten\" {{\n  source = {}\n  private_key_file = {}\n  known_hosts_file = {}\n  etcd_version = {}\n  \
         etcd_binary = {{ host_path = {} }}\n",
        source(terraform, "multi-region")?,
        quoted(&private_key_file().display().to_string()),
        quoted(&lab.known_hosts_file().display().to_string()),
        quoted(ETCD),
        quoted(&format!("/opt/etcd/{ETCD}")),
    );
    text.push_str("  clusters = {\n");
    for number in 0..CLUSTERS {
        // Fifty members share the processors of one machine here: patience, as over a long way.
        writeln!(
            text,
            "    {} = {{ peer_port = {}, client_port = {}, heartbeat_interval = 500, election_timeout = 5000, etcd_config = {} }}",
            cluster_name(number),
            peer_port(number),
            client_port(number),
            configs.get(&number).unwrap_or(&"null")
        )?;
    }
    text.push_str("  }\n  regions = {\n");
    // Each region has another user, who goes with the servers.
    for ((region, site), user) in REGIONS.iter().zip(["admin", "root", "admin"]) {
        writeln!(
            text,
            "    {region} = {{ servers = {}, ssh = {{ user = \"{user}\" }} }}",
            servers(lab, site)?
        )?;
    }
    text.push_str("  }\n}\noutput \"clusters\" {\n  value = module.ten.clusters\n}\n");
    Ok(text)
}

/// The standard lab, with every port for peers forwarded to `c1`.
fn lab_of_ten() -> Result<Lab> {
    let ports: Vec<(u16, u16)> = (0..CLUSTERS)
        .map(peer_port)
        .chain([22])
        .map(|port| (port, port))
        .collect();
    Builder::standard(&prefix("ten"))
        .only(&["a1", "a2", "b1", "b2"])
        .host(HostSpec::new("c1", "C", [192, 168, 7, 31]).forwarded(&ports))
        .up()
}

/// Destroys all, and sees that nothing is left on the hosts.
fn destroyed(lab: &Lab, terraform: &Terraform<'_>, what: &str) -> Result<()> {
    measured(
        terraform,
        what,
        &["destroy", "-auto-approve", "-input=false", "-no-color"],
    )?
    .ok()?;
    for host in HOSTS {
        let left = leftovers(lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
    }
    Ok(())
}

/// Runs Terraform to its end, and says how long that took and how much memory the largest of the provider's processes had.
fn measured(terraform: &Terraform<'_>, what: &str, arguments: &[&str]) -> Result<Output> {
    let begun = Instant::now();
    let mut running = terraform.start(arguments)?;
    let mut peak = 0;
    while !running.ended()? {
        for process in running.providers() {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib: u64 = line
                .and_then(|line| line.split_whitespace().next()?.parse().ok())
                .unwrap_or(0);
            peak = peak.max(kib);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let output = running.wait()?;
    eprintln!(
        "{what}: {:.1?}, the provider had {} MiB at most",
        begun.elapsed(),
        peak / 1024
    );
    Ok(output)
}

const APPLY: &[&str] = &["apply", "-auto-approve", "-input=false", "-no-color"];

/// What the members of all clusters on a host say of themselves, by the cluster's name.
fn statuses(lab: &Lab, host: &str) -> Result<BTreeMap<String, Value>> {
    let script = format!(
        "for pki in /etc/etcd/c*/pki; do c=${{pki#/etc/etcd/}}; c=${{c%/pki}}; \
         /opt/etcd/{ETCD}/etcdctl --command-timeout=20s --cacert=$pki/client-ca.crt --cert=$pki/server.crt --key=$pki/server.key \
         --endpoints=https://127.0.0.1:$((25000 + 1${{c#c}} - 100)) endpoint status -w json || exit; echo; done"
    );
    let text = lab.exec(host, &script)?.ok()?;
    let answers = text.lines().filter(|line| !line.trim().is_empty());
    let answers: Vec<Value> = answers
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    ensure!(
        answers.len() == usize::from(CLUSTERS),
        "{host} has these members: {text}"
    );
    let named = (0..CLUSTERS)
        .map(cluster_name)
        .zip(answers.into_iter().map(|answer| answer[0]["Status"].clone()));
    Ok(named.collect())
}

/// Checks that on every host each cluster's member follows one leader, the same in all five, and returns the clusters' IDs.
fn ten_healthy(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let mut seen: BTreeMap<String, BTreeSet<(u64, u64)>> = BTreeMap::new();
    let mut members = BTreeSet::new();
    for host in HOSTS {
        for (cluster, status) in statuses(lab, host)? {
            let id = status["header"]["cluster_id"].as_u64().context("no cluster ID")?;
            let leader = status["leader"].as_u64().unwrap_or(0);
            ensure!(leader != 0, "the member of {cluster} on {host} has no leader");
            members.insert(status["header"]["member_id"].as_u64().context("no member ID")?);
            seen.entry(cluster).or_default().insert((id, leader));
        }
    }
    ensure!(members.len() == 50, "{} different members", members.len());
    ensure!(
        seen.values().all(|views| views.len() == 1),
        "the members differ: {seen:?}"
    );
    let ids: BTreeMap<String, u64> = seen
        .into_iter()
        .filter_map(|(cluster, views)| Some((cluster, views.first()?.0)))
        .collect();
    ensure!(
        ids.values().collect::<BTreeSet<_>>().len() == usize::from(CLUSTERS),
        "{ids:?}"
    );
    Ok(ids)
}

/// What each cluster has written through one host and reads through another.
fn ten_write(lab: &Lab) -> Result<()> {
    for number in 0..CLUSTERS {
        let (from, to) = (HOSTS[usize::from(number) % 5], HOSTS[usize::from(number + 2) % 5]);
        let cluster = cluster_name(number);
        let pki = format!("/etc/etcd/{cluster}/pki");
        let ctl = format!(
            "/opt/etcd/{ETCD}/etcdctl --command-timeout=20s --cacert={pki}/client-ca.crt --cert={pki}/server.crt \
             --key={pki}/server.key --endpoints=https://127.0.0.1:{}",
            client_port(number)
        );
        lab.exec(from, &format!("{ctl} put who {cluster}"))?.ok()?;
        let read = lab.exec(to, &format!("{ctl} get --print-value-only who"))?.ok()?;
        ensure!(read.trim() == cluster, "{cluster} on {to} reads {read:?}");
    }
    Ok(())
}

/// Everything on the hosts that a change could touch, by host and cluster: when the members' processes were started, and their
/// files with the times of their last change.
fn footprint(lab: &Lab) -> Result<BTreeMap<(String, String), String>> {
    let mut all = BTreeMap::new();
    for host in HOSTS {
        for number in 0..CLUSTERS {
            let cluster = cluster_name(number);
            let script = format!(
                "systemctl show -p ExecMainStartTimestampMonotonic etcd-{cluster}.service; \
                 find /etc/etcd/{cluster} /etc/systemd/system/etcd-{cluster}.service -printf '%p %T@ %C@\\n' | sort"
            );
            all.insert((host.to_owned(), cluster), lab.exec(host, &script)?.ok()?);
        }
    }
    Ok(all)
}

/// How often somebody has logged in on the host so far.
fn logins(lab: &Lab, host: &str) -> Result<usize> {
    let text = lab
        .exec(
            host,
            "journalctl -q --no-pager -u ssh | grep -c 'Accepted publickey' || :",
        )?
        .ok()?;
    text.trim().parse().with_context(|| text.clone())
}

#[test]
#[ignore = "takes all of a machine with two cores for minutes: run it by name with --ignored"]
fn ten_clusters_of_five_from_one_module_per_region() -> Result<()> {
    let lab = lab_of_ten()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&ten_clusters(&lab, &terraform, &BTreeMap::new())?)?;
    measured(
        &terraform,
        "plan of 50 servers, 10 clusters, 50 members",
        &["plan", "-input=false", "-no-color"],
    )?
    .ok()?;
    let said = measured(&terraform, "apply", APPLY)?.ok()?;
    ensure!(said.contains("110 added"), "{said}");
    for host in HOSTS {
        let logins = logins(&lab, host)?;
        ensure!(logins == 1, "{logins} logins on {host}, for ten servers at one address");
    }
    let ids = ten_healthy(&lab)?;
    ten_write(&lab)?;
    let told = terraform.run(&["output", "-json", "clusters"])?.ok()?;
    let told: BTreeMap<String, Value> = serde_json::from_str(&told)?;
    for (cluster, id) in &ids {
        let said = told[cluster]["id"].as_str().unwrap_or_default();
        ensure!(
            said == format!("{id:x}"),
            "{cluster} is {id:x}, and Terraform says {said}"
        );
    }
    let plan = &["plan", "-detailed-exitcode", "-input=false", "-no-color"];
    let output = measured(&terraform, "plan of all of it with nothing to do", plan)?;
    ensure!(output.code == 0, "{}{}", output.stdout, output.stderr);

    // One change in one cluster is a change of that cluster.
    let before = footprint(&lab)?;
    let changed = BTreeMap::from([(3, "{ \"snapshot-count\" = \"5000\" }")]);
    terraform.write("main.tf", &ten_clusters(&lab, &terraform, &changed)?)?;
    let said = measured(&terraform, "one option of etcd in one of ten clusters", APPLY)?.ok()?;
    ensure!(said.contains("0 added, 5 changed, 0 destroyed"), "{said}");
    for (place, after) in footprint(&lab)? {
        let same = before[&place] == after;
        ensure!(
            same == (place.1 != cluster_name(3)),
            "{place:?}:\n{}\n{after}",
            before[&place]
        );
    }
    eventually("all ten are well", || Ok(ten_healthy(&lab)? == ids))?;
    terraform.nothing_to_do()?;

    destroyed(&lab, &terraform, "destroy")
}

/// The cluster `main` of three regions, each with a provider alias of its own: four processes of the provider.
fn aliases(lab: &Lab, terraform: &Terraform<'_>, config: &str) -> Result<String> {
    let mut text =
        String::from("terraform {\n  required_providers {\n    etcd = { source = \"crossnet/etcd\" }\n  }\n}\n");
    let provider = |alias: &str, user: &str| {
        format!(
            "provider \"etcd\" {{\n{alias}  ssh = {{\n    user = {}\n    private_key_file = {}\n    known_hosts_file = {}\n  }}\n}}\n",
            quoted(user),
            quoted(&private_key_file().display().to_string()),
            quoted(&lab.known_hosts_file().display().to_string())
        )
    };
    text.push_str(&provider("", "admin"));
    for ((region, site), user) in REGIONS.iter().zip(["admin", "root", "admin"]) {
        text.push_str(&provider(&format!("  alias = {}\n", quoted(region)), user));
        write!(
            text,
            "module \"{region}\" {{\n  source = {}\n  providers = {{ etcd = etcd.{region} }}\n  network = {}\n  servers = {}\n  \
             cluster = etcd_cluster.main\n  etcd_version = {}\n  etcd_binary = {{ host_path = {} }}\n  etcd_config = {config}\n}}\n",
            source(terraform, "modules/region")?,
            quoted(region),
            servers(lab, site)?,
            quoted(ETCD),
            quoted(&format!("/opt/etcd/{ETCD}")),
        )?;
    }
    text.push_str(
        "resource \"etcd_cluster\" \"main\" {\n  name = \"main\"\n  \
         servers = merge(module.frankfurt.servers, module.office.servers, module.home.servers)\n}\n",
    );
    Ok(text)
}

#[test]
fn a_provider_alias_for_each_region() -> Result<()> {
    let lab = Builder::standard(&prefix("alias")).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&aliases(&lab, &terraform, "null")?)?;
    measured(&terraform, "apply with four provider processes", APPLY)?.ok()?;
    let id = one_cluster(&lab, &HOSTS)?;
    terraform.nothing_to_do()?;

    // Three processes want to restart members of one cluster: no two of them at the same time.
    let writer = Writer::start(&lab, &HOSTS)?;
    terraform.write(
        "main.tf",
        &aliases(&lab, &terraform, "{ \"snapshot-count\" = \"5000\" }")?,
    )?;
    let said = measured(&terraform, "a rolling change by three provider processes", APPLY)?.ok()?;
    ensure!(said.contains("0 added, 5 changed, 0 destroyed"), "{said}");
    let written = writer.stop()?;
    eprintln!("meanwhile: {written}");
    written.nothing_lost()?;
    for host in HOSTS {
        let said = status(&lab, host)?;
        ensure!(said.cluster_id == id && said.leader != 0, "{host}: {said:?}");
    }
    terraform.nothing_to_do()?;

    destroyed(&lab, &terraform, "destroy by four provider processes")
}
