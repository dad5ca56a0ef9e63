//! A cluster that nobody's Terraform made: etcd under a service of its own, with addresses as peer URLs. It is imported, taken over one
//! member at a time while a client writes, and a cluster like any other afterwards.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::authorities::make_authorities;
use crate::configuration::Configuration;
use crate::fingerprint::Fingerprint;
use crate::outside::{ctl, eventually, member_list, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

/// Where the members are.
pub const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
/// How a cluster was set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As Debian's package does, but for where its program lies: options in the environment, no TLS.
    Debian,
    /// A unit and a configuration file of somebody's own, TLS, and the data right in `/var/lib/etcd`.
    Own,
    /// The same with one authority for peers and clients.
    OneAuthority,
}

impl Kind {
    fn service(self) -> &'static str {
        match self {
            Self::Debian => "etcd.service",
            Self::Own | Self::OneAuthority => "kv-store.service",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Debian => "http",
            Self::Own | Self::OneAuthority => "https",
        }
    }

    /// Its unit but for the program, and where its options stand.
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Debian => (
                "[Unit]\nDescription=etcd - highly-available key value store\nAfter=network.target\n[Service]\nType=notify\n\
                 EnvironmentFile=-/etc/default/etcd\nUser=etcd\nExecStart=/opt/etcd/VERSION/etcd\nRestart=on-abnormal\n\
                 LimitNOFILE=65536\n[Install]\nWantedBy=multi-user.target\n",
                "/etc/default/etcd",
            ),
            Self::Own | Self::OneAuthority => (
                "[Service]\nExecStart=/opt/etcd/VERSION/etcd --config-file /etc/kv-store.yaml\nRestart=always\n\
                 [Install]\nWantedBy=multi-user.target\n",
                "/etc/kv-store.yaml",
            ),
        }
    }

    fn options(self, host: &str, address: &str, initial: &str) -> String {
        match self {
            Self::Debian => format!(
                "ETCD_NAME=n-{host}\nETCD_DATA_DIR=/var/lib/etcd/default\nETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380\n\
                 ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379\nETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380\n\
                 ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379\nETCD_INITIAL_CLUSTER={initial}\n\
                 ETCD_INITIAL_CLUSTER_TOKEN=plain\nETCD_SNAPSHOT_COUNT=20000\n"
            ),
            Self::Own | Self::OneAuthority => format!(
                "name: n-{host}\ndata-dir: /var/lib/etcd\nlisten-peer-urls: https://0.0.0.0:2380\n\
                 listen-client-urls: https://0.0.0.0:2379\ninitial-advertise-peer-urls: https://{address}:2380\n\
                 advertise-client-urls: https://{address}:2379\ninitial-cluster: {initial}\nsnapshot-count: 20000\n\
                 peer-transport-security:\n  cert-file: /etc/kv-pki/peer.crt\n  key-file: /etc/kv-pki/peer.key\n  \
                 trusted-ca-file: /etc/kv-pki/peer-ca.crt\n  client-cert-auth: true\nclient-transport-security:\n  \
                 cert-file: /etc/kv-pki/client.crt\n  key-file: /etc/kv-pki/client.key\n  \
                 trusted-ca-file: /etc/kv-pki/client-ca.crt\n  client-cert-auth: true\n"
            ),
        }
    }
}

/// Where the member on a host is reached by all others.
fn public(lab: &Lab, host: &str) -> Result<String> {
    Ok(lab.public_address(host)?.context("no public address")?.to_string())
}

/// A certificate for the host's addresses, and for both directions, from the authority `peer` or `client` in the folder. In PEM, with its
/// key.
fn issue(lab: &Lab, host: &str, folder: &Path, authority: &str) -> Result<(String, String)> {
    let (certificate, key) = (folder.join("issued.crt"), folder.join("issued.key"));
    let addresses = format!(
        "subjectAltName=IP:{},IP:{},IP:127.0.0.1,DNS:{host}.old.example",
        public(lab, host)?,
        lab.private_address(host)?
    );
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ])
        .args(["-subj", &format!("/CN=n-{host}"), "-addext", &addresses])
        .args([
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-CA")
        .arg(folder.join(format!("{authority}.crt")))
        .arg("-CAkey")
        .arg(folder.join(format!("{authority}.key")))
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()?;
    ensure!(
        made.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok((fs::read_to_string(certificate)?, fs::read_to_string(key)?))
}

/// A cluster of members named `n-<host>` on these hosts, with the addresses that all of them are reached by. The authorities lie in
/// `folder`.
pub fn make(lab: &Lab, hosts: &[&str], version: &str, kind: Kind, folder: &Path) -> Result<()> {
    if kind == Kind::OneAuthority {
        for ending in ["crt", "key"] {
            fs::copy(
                folder.join(format!("peer.{ending}")),
                folder.join(format!("client.{ending}")),
            )?;
        }
    }
    let initial: Result<Vec<String>> = hosts
        .iter()
        .map(|host| Ok(format!("n-{host}={}://{}:2380", kind.scheme(), public(lab, host)?)))
        .collect();
    let initial = initial?.join(",");
    for host in hosts {
        let (unit, place) = kind.files();
        let mut files = vec![
            (place.to_owned(), kind.options(host, &public(lab, host)?, &initial)),
            (
                format!("/etc/systemd/system/{}", kind.service()),
                unit.replace("VERSION", version),
            ),
        ];
        if kind != Kind::Debian {
            for authority in ["peer", "client"] {
                let (certificate, key) = issue(lab, host, folder, authority)?;
                let trusted = fs::read_to_string(folder.join(format!("{authority}.crt")))?;
                files.push((format!("/etc/kv-pki/{authority}.crt"), certificate));
                files.push((format!("/etc/kv-pki/{authority}.key"), key));
                files.push((format!("/etc/kv-pki/{authority}-ca.crt"), trusted));
            }
        }
        let mut script = "useradd --system --home-dir /var/lib/etcd --shell /bin/false etcd\n\
             install -d -o etcd -g etcd -m 0700 /var/lib/etcd /var/lib/etcd/default\nmkdir /etc/kv-pki /etc/plain-client\n"
            .to_owned();
        for (path, text) in files {
            let _ = write!(script, "cat >{path} <<'END'\n{text}END\n");
        }
        if kind != Kind::Debian {
            script.push_str("rmdir /var/lib/etcd/default; cp /etc/kv-pki/client.* /etc/plain-client/\ncp /etc/kv-pki/client-ca.crt /etc/plain-client/ca.crt\n");
        }
        let _ = write!(script, "systemctl enable --now --no-block {}", kind.service());
        lab.exec(host, &script)?.ok()?;
    }
    eventually("the plain cluster answers", || Ok(one_cluster(lab, hosts).is_ok()))
}

/// Import blocks for everything, by identity or by ID.
pub fn imports(lab: &Lab, hosts: &[&str], kind: Kind, by_id: bool) -> Result<String> {
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
        let member = format!(
            "{{ cluster = \"main\", server = {host:?}, servers = SERVERS, adopted_from = {:?} }}",
            kind.service()
        );
        block(format!("etcd_member.this[{host:?}]"), member.clone(), member);
    }
    let cluster = format!(
        "{{ name = \"main\", servers = SERVERS, adopted_from = {:?} }}",
        kind.service()
    );
    block("etcd_cluster.main".to_owned(), cluster.clone(), cluster);
    Ok(text)
}

/// All members vote, under their old IDs, and by their names as peer URLs; and nothing runs under the old service or would at a boot.
pub fn by_names(lab: &Lab, hosts: &[&str], ids: &BTreeSet<u64>, kind: Kind) -> Result<()> {
    let listed = member_list(lab, hosts[0])?;
    ensure!(
        listed.iter().map(|one| one.id).collect::<BTreeSet<_>>() == *ids,
        "{listed:?}"
    );
    for host in hosts {
        let url = format!("{}://{host}.main.etcd.internal:2380", kind.scheme());
        ensure!(
            listed
                .iter()
                .any(|one| one.name == *host && one.peer_urls == [url.clone()] && !one.learner),
            "{host} is not listed by {url}: {listed:?}"
        );
        let service = kind.service();
        let services = format!(
            "systemctl is-active etcd-main; systemctl is-active {service}; systemctl is-enabled {service}; ls /etc/etcd/main/adopting"
        );
        let services = lab.exec(host, &services)?.stdout;
        ensure!(services == "active\ninactive\ndisabled\n", "{host}: {services}");
    }
    Ok(())
}

/// The configuration that takes such a cluster over; the authorities lie in Terraform's folder.
pub fn configuration(lab: &Lab, hosts: &[&str], version: &str, kind: Kind) -> Result<Configuration> {
    let configuration = Configuration::new(lab, hosts, version)?.member("config", "{ \"snapshot-count\" = \"20000\" }");
    let keys = "{ main = { peer_private_key = file(\"peer.key\"), client_private_key = file(\"client.key\") } }";
    Ok(match kind {
        Kind::Debian => configuration.cluster("tls", "{ enabled = false }"),
        Kind::Own => configuration
            .cluster(
                "tls",
                "{ peer_ca_certificate = file(\"peer.crt\"), client_ca_certificate = file(\"client.crt\") }",
            )
            .provider("certificate_authorities", keys),
        Kind::OneAuthority => configuration.provider("certificate_authorities", keys),
    })
}

#[test]
fn a_plain_cluster_is_taken_over_by_identity() -> Result<()> {
    taken_over("plain-36", "3.6.16", Kind::Debian, false)
}

#[test]
fn a_plain_cluster_of_3_5_is_taken_over_by_id() -> Result<()> {
    taken_over("plain-35", "3.5.30", Kind::Debian, true)
}

#[test]
fn a_plain_cluster_with_tls_is_taken_over() -> Result<()> {
    taken_over("plain-tls", "3.6.16", Kind::Own, false)
}

#[test]
fn a_plain_cluster_of_3_4_with_one_authority_is_taken_over() -> Result<()> {
    taken_over("plain-tls-34", "3.4.23", Kind::OneAuthority, true)
}

fn taken_over(name: &str, version: &str, kind: Kind, by_id: bool) -> Result<()> {
    let four = ["a1", "a2", "b1", "c1"];
    let lab = Builder::standard(&prefix(name)).only(&four).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    make_authorities(&terraform.work())?;
    make(&lab, &HOSTS, version, kind, &terraform.work())?;
    let cluster = one_cluster(&lab, &HOSTS)?;
    let ids: BTreeSet<u64> = member_list(&lab, "a1")?.into_iter().map(|one| one.id).collect();
    ctl(&lab, "a1", "put before all-that")?;
    // The members write meanwhile.
    let hosts = || Ok::<_, anyhow::Error>(Fingerprint::take(&lab)?.without(|line| line.contains("/var/lib/etcd/")));
    let before = hosts()?;
    let writer = Writer::start(&lab, &HOSTS)?;

    if kind == Kind::Own {
        // root runs it, and nothing can be executed where root's own data is.
        lab.exec(
            "a1",
            "mount --bind /var/lib /var/lib && mount -o remount,bind,noexec /var/lib",
        )?
        .ok()?;
    }
    let text = configuration(&lab, &HOSTS, version, kind)?.render();
    terraform.configure(&(text.clone() + &imports(&lab, &HOSTS, kind, by_id)?))?;
    // The import and the plan look, and nothing else; and the plan says what is to come.
    let planned = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    let scheme = kind.scheme();
    for says in [
        "7 to import, 0 to add, 4 to change, 0 to destroy".to_owned(),
        format!("\"{scheme}://203.0.113.11:2380\" -> \"{scheme}://a1.main.etcd.internal:2380\""),
        format!(
            "- \"{}\" = \"runs the member; it was not taken over yet\" -> null",
            kind.service()
        ),
    ] {
        ensure!(planned.contains(&says), "the plan does not say {says}:\n{planned}");
    }
    let warned = planned.contains("a1: a1.old.example; b1: b1.old.example");
    ensure!(warned == (kind != Kind::Debian), "of names that get lost:\n{planned}");
    ensure!(hosts()? == before, "the plan changed something");

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
    eprintln!("etcd {version} with {scheme} taken over in {took:.1?}; {written}");
    written.nothing_lost()?;
    ensure!(one_cluster(&lab, &HOSTS)? == cluster, "it is another cluster");
    ensure!(ctl(&lab, "c1", "get before --print-value-only")?.trim() == "all-that");
    by_names(&lab, &HOSTS, &ids, kind)?;
    for host in HOSTS {
        ensure!(status(&lab, host)?.version == version);
    }

    // A cluster like any other from then on: it grows.
    terraform.write("main.tf", &configuration(&lab, &four, version, kind)?.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    let grown = member_list(&lab, "a1")?;
    ensure!(grown.len() == 4 && grown.iter().all(|one| !one.learner), "{grown:?}");
    Ok(())
}
