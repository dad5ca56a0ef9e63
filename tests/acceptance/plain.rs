//! A cluster that nobody's Terraform made: etcd under a service of its own, with addresses as peer URLs. It is imported, taken over one
//! member at a time while a client writes, and a cluster like any other afterwards.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::fingerprint::Fingerprint;
use crate::outside::{ctl, member_list, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
/// As Debian's package has it, but for where its program lies.
const UNIT: &str = "[Unit]\nDescription=etcd - highly-available key value store\nAfter=network.target\n[Service]\nType=notify\n\
    EnvironmentFile=-/etc/default/etcd\nUser=etcd\nExecStart=/opt/etcd/VERSION/etcd\nRestart=on-abnormal\nLimitNOFILE=65536\n\
    [Install]\nWantedBy=multi-user.target\n";

/// Where the member on a host is reached by all others.
fn public(lab: &Lab, host: &str) -> Result<String> {
    Ok(lab.public_address(host)?.context("no public address")?.to_string())
}

/// A cluster of members named `n-<host>` on these hosts, with the addresses that all of them are reached by.
fn make(lab: &Lab, hosts: &[&str], version: &str) -> Result<()> {
    let mut initial = Vec::new();
    for host in hosts {
        initial.push(format!("n-{host}=http://{}:2380", public(lab, host)?));
    }
    for host in hosts {
        let address = public(lab, host)?;
        let settings = [
            ("NAME", format!("n-{host}")),
            ("DATA_DIR", "/var/lib/etcd/default".to_owned()),
            ("LISTEN_PEER_URLS", "http://0.0.0.0:2380".to_owned()),
            ("LISTEN_CLIENT_URLS", "http://0.0.0.0:2379".to_owned()),
            ("INITIAL_ADVERTISE_PEER_URLS", format!("http://{address}:2380")),
            ("ADVERTISE_CLIENT_URLS", format!("http://{address}:2379")),
            ("INITIAL_CLUSTER", initial.join(",")),
            ("INITIAL_CLUSTER_STATE", "new".to_owned()),
            ("INITIAL_CLUSTER_TOKEN", "plain".to_owned()),
            ("SNAPSHOT_COUNT", "20000".to_owned()),
        ];
        let mut text = String::new();
        for (name, value) in settings {
            let _ = writeln!(text, "ETCD_{name}=\"{value}\"");
        }
        let unit = UNIT.replace("VERSION", version);
        let script = format!(
            "useradd --system --home-dir /var/lib/etcd --shell /bin/false etcd\ninstall -d -o etcd -g etcd -m 0700 /var/lib/etcd/default\n\
             chown etcd:etcd /var/lib/etcd\ncat >/etc/default/etcd <<'END'\n{text}END\n\
             cat >/etc/systemd/system/etcd.service <<'END'\n{unit}END\nmkdir /etc/plain-client\n\
             systemctl enable --now --no-block etcd.service"
        );
        lab.exec(host, &script)?.ok()?;
    }
    crate::outside::eventually("the plain cluster answers", std::time::Duration::from_secs(30), || {
        Ok(one_cluster(lab, hosts).is_ok())
    })
}

/// Import blocks for everything, by identity or by ID.
fn imports(lab: &Lab, hosts: &[&str], by_id: bool) -> Result<String> {
    let mut text = String::from("locals {\n  existing = {\n");
    for host in hosts {
        let (network, private) = (lab.spec().site_of(host)?, lab.private_address(host)?);
        let _ = writeln!(
            text,
            "    {host} = {{ network = \"{network}\", private_address = \"{private}\", public_address = \"{}\" }}",
            public(lab, host)?
        );
    }
    text.push_str("  }\n}\n");
    let mut block = |to: String, fields: String, whole: String| {
        let given = if by_id {
            format!("id = jsonencode({})", whole.replace("SERVERS", "local.existing"))
        } else {
            format!("identity = {}", fields.replace("SERVERS", "jsonencode(local.existing)"))
        };
        let _ = writeln!(text, "import {{\n  to = {to}\n  {given}\n}}");
    };
    for host in hosts {
        let server = format!("merge({{ name = {host:?} }}, local.existing.{host})");
        block(format!("etcd_server.{host}"), server.clone(), server);
        let member =
            format!("{{ cluster = \"main\", server = {host:?}, servers = SERVERS, adopted_from = \"etcd.service\" }}");
        block(format!("etcd_member.this[{host:?}]"), member.clone(), member);
    }
    let cluster = "{ name = \"main\", servers = SERVERS, adopted_from = \"etcd.service\" }".to_owned();
    block("etcd_cluster.main".to_owned(), cluster.clone(), cluster);
    Ok(text)
}

/// All members vote, under their old IDs, and by their names as peer URLs.
fn by_names(lab: &Lab, hosts: &[&str], ids: &BTreeSet<u64>, scheme: &str) -> Result<()> {
    let listed = member_list(lab, hosts[0])?;
    ensure!(
        listed.iter().map(|one| one.id).collect::<BTreeSet<_>>() == *ids,
        "{listed:?}"
    );
    for host in hosts {
        let url = format!("{scheme}://{host}.main.etcd.internal:2380");
        ensure!(
            listed
                .iter()
                .any(|one| one.name == *host && one.peer_urls == [url.clone()] && !one.learner),
            "{host} is not listed by {url}: {listed:?}"
        );
        let services = "systemctl is-active etcd-main; systemctl is-active etcd; systemctl is-enabled etcd; test ! -e /etc/etcd/main/adopting";
        let services = lab.exec(host, services)?;
        ensure!(
            services.success() || services.stdout == "active\ninactive\ndisabled\n",
            "{host}: {services:?}"
        );
    }
    Ok(())
}

#[test]
fn a_plain_cluster_is_taken_over_by_identity() -> Result<()> {
    taken_over("plain-36", "3.6.16", false)
}

#[test]
fn a_plain_cluster_of_3_5_is_taken_over_by_id() -> Result<()> {
    taken_over("plain-35", "3.5.30", true)
}

fn taken_over(name: &str, version: &str, by_id: bool) -> Result<()> {
    let four = ["a1", "a2", "b1", "c1"];
    let lab = Builder::standard(&prefix(name)).only(&four).up()?;
    make(&lab, &HOSTS, version)?;
    let cluster = one_cluster(&lab, &HOSTS)?;
    let ids: BTreeSet<u64> = member_list(&lab, "a1")?.into_iter().map(|one| one.id).collect();
    ctl(&lab, "a1", "put before all-that")?;
    let before = Fingerprint::take(&lab)?;
    let writer = Writer::start(&lab, &HOSTS)?;

    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, version)?
        .cluster("tls", "{ enabled = false }")
        .member("config", "{ \"snapshot-count\" = \"20000\" }");
    let text = configuration.render();
    terraform.configure(&(text.clone() + &imports(&lab, &HOSTS, by_id)?))?;
    // The import and the plan look, and nothing else; and the plan says what is to come.
    let planned = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    eprintln!("{planned}");
    ensure!(
        planned.contains("7 to import, 0 to add, 4 to change, 0 to destroy"),
        "{planned}"
    );
    for says in [
        "\"http://203.0.113.11:2380\" -> \"http://a1.main.etcd.internal:2380\"",
        "- \"etcd.service\" = \"runs the member; it was not taken over yet\" -> null",
    ] {
        ensure!(planned.contains(says), "the plan does not say {says}:\n{planned}");
    }
    before.unchanged_but_for(&lab, |line| line.contains("/var/lib/etcd/default"))?;

    let begun = Instant::now();
    let applied = terraform.apply()?;
    let took = begun.elapsed();
    ensure!(
        applied.contains("7 imported, 0 added, 4 changed, 0 destroyed"),
        "{applied}"
    );
    terraform.write("main.tf", &text)?;
    terraform.nothing_to_do()?;
    let written = writer.stop()?;
    eprintln!("etcd {version} taken over in {took:.1?}; {written}");
    written.nothing_lost()?;
    ensure!(one_cluster(&lab, &HOSTS)? == cluster, "it is another cluster");
    ensure!(ctl(&lab, "c1", "get before --print-value-only")?.trim() == "all-that");
    by_names(&lab, &HOSTS, &ids, "http")?;
    ensure!(status(&lab, "b1")?.version == version);

    // A cluster like any other from then on: it grows.
    let grown = Configuration::new(&lab, &four, version)?
        .cluster("tls", "{ enabled = false }")
        .member("config", "{ \"snapshot-count\" = \"20000\" }");
    terraform.write("main.tf", &grown.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(one_cluster(&lab, &four)? == cluster, "it is another cluster");
    Ok(())
}
